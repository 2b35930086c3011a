"""What finished runs are worth on the test images: figures, tables and pictures."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.diversity import log_diversity
from detector.errors import InputError, RunError
from detector.prediction import member_probabilities
from detector.rates import Rate
from training import Dataset, Run, TrainConfig, load, take, train
from training.ensemble import Ensemble, Member
from training.evaluation.errors import error_table
from training.evaluation.estimate import Estimate
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.hidden import hidden_features
from training.evaluation.histogram import histogram, outside
from training.evaluation.page import page
from training.evaluation.result import Evaluation, Result, evaluated
from training.evaluation.scatter import embed, scatter
from training.evaluation.setting import Setting
from training.paper import TABLE1, deviations, settings_of
from training.trainer import predict

BASELINE, ADP = Setting(0.0, 0.0), Setting(2.0, 0.5)
PROVENANCE = {"command": "ledgate evaluate", "time": "now", "machine": "here", "versions": {"python": "3"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = TrainConfig(members=3, epochs=2, keep="best")
    return train(config, tmp_path_factory.mktemp("evaluation") / "run", progress=False)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def evaluation(trained: Run, digits: Dataset) -> Evaluation:
    return evaluated(trained, digits)


Make = Callable[..., Evaluation]


@pytest.fixture
def make(evaluation: Evaluation) -> Make:
    """Evaluations of runs with other settings and errors, in % of 10,000 test images; nothing is trained."""

    def evaluation_of(config: TrainConfig, errors: Sequence[float] = (1, 1, 1, 1), name: str = "made") -> Evaluation:
        rates = [Rate.of(np.arange(10_000) < round(100 * error)) for error in errors]
        images = {"train": 45_000, "validation": 2_500, "calibration": 2_501, "test": 10_000}
        result = evaluation.result.model_copy(
            update={
                "run": name,
                "config": asdict(config),
                "images": images,
                "member_errors": tuple(rates[:-1]),
                "ensemble_error": rates[-1],
            }
        )
        return replace(evaluation, run=Run(path=Path(name), config=config), result=result)

    return evaluation_of


def results(evaluations: Iterable[Evaluation]) -> list[Result]:
    return [evaluation.result for evaluation in evaluations]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without the line below its head."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- one run ---------------------------------------------------------------------------------------------------------


def test_figures_agree_with_a_slow_twin(evaluation: Evaluation, trained: Run, digits: Dataset) -> None:
    ensemble, checkpoint = trained.trained()
    test = take(digits, "test")
    wrong, ensemble_wrong, confidence, divergence = [0, 0, 0], 0, 0.0, 0.0
    for image, label in zip(test.images, np.asarray(test.labels), strict=True):
        with torch.no_grad():
            members = [
                torch.softmax(member(torch.tensor(image)[None])[0].double(), dim=0).tolist()
                for member in ensemble.members
            ]
        mean = [sum(column) / 3 for column in zip(*members, strict=True)]
        for k, member in enumerate(members):
            wrong[k] += member.index(max(member)) != label
        ensemble_wrong += mean.index(max(mean)) != label
        confidence += max(mean)
        divergence += entropy(mean) - sum(entropy(member) for member in members) / 3
    result = evaluation.result
    assert [rate.count for rate in result.member_errors] == wrong
    assert (result.ensemble_error.count, result.ensemble_error.n) == (ensemble_wrong, len(test))
    assert result.confidence == pytest.approx(confidence / len(test), rel=1e-5)
    assert result.js_divergence == pytest.approx(divergence / len(test), rel=1e-5)
    assert result.validation_accuracy == max(epoch["accuracy"] for epoch in checkpoint.metrics)
    assert result.seconds == pytest.approx(sum(epoch["seconds"] for epoch in checkpoint.metrics))


def entropy(probabilities: Sequence[float]) -> float:
    return -sum(share * math.log(share) for share in probabilities if share)


def test_true_labels_decide_errors_and_nothing_else(evaluation: Evaluation, trained: Run, digits: Dataset) -> None:
    moved = evaluated(trained, replace(digits, labels=(digits.labels + 1) % 10))
    assert moved.result.ensemble_error.rate > 0.5 > evaluation.result.ensemble_error.rate
    own = take(digits, "test")
    logits = predict(trained.trained()[0], own, batch_size=512)
    assert np.allclose(evaluation.log_diversity, log_diversity(logits, member_probabilities(logits).mean(1).argmax(1)))
    assert not np.allclose(evaluation.log_diversity, log_diversity(logits, np.asarray(own.labels)))


def test_quantiles_occur_and_rise(evaluation: Evaluation) -> None:
    found = [value for _, value in sorted(evaluation.result.log_diversity_quantiles.items(), key=lambda q: float(q[0]))]
    assert set(found) <= set(evaluation.log_diversity)
    assert found == sorted(found)
    assert found[2] <= evaluation.result.median_log_diversity <= found[3]


def test_result_survives_json(evaluation: Evaluation) -> None:
    infinite = evaluation.result.model_copy(update={"median_log_diversity": -math.inf})
    text = infinite.model_dump_json()
    assert '"median_log_diversity":"-Infinity"' in text
    assert Result.model_validate_json(text).model_dump_json() == text


def test_another_data_set_is_refused(trained: Run, digits: Dataset) -> None:
    few = digits.labels < 5
    other = replace(digits, images=digits.images[few], labels=digits.labels[few], class_names=digits.class_names[:5])
    with pytest.raises(RunError, match=r"in the 10 classes it was trained on, found .* in 5 of 'digits'"):
        evaluated(trained, other)


# --- estimates -------------------------------------------------------------------------------------------------------


def test_mean_of_seeds_has_students_interval() -> None:
    found = Estimate.of_seeds([1.0, 2.0, 3.0], least=-math.inf, most=math.inf)
    assert found.value == 2
    assert found.high == pytest.approx(2 + 4.302652729911275 / math.sqrt(3))  # t of 2 degrees of freedom, from a table
    assert found.low == pytest.approx(4 - 4.484137791)


@pytest.mark.parametrize("values", [[1.5], [-math.inf, 1.0]], ids=["one-seed", "infinite"])
def test_no_interval_where_there_is_none(values: list[float]) -> None:
    found = Estimate.of_seeds(values, least=-math.inf, most=math.inf)
    assert (found.value, found.low, found.high) == (values[0], None, None)


def test_shares_have_the_exact_interval_or_the_seeds() -> None:
    one, other = Rate.of(np.arange(1000) < 10), Rate.of(np.arange(1000) < 14)
    assert Estimate.of_rates([one]).text(".2f") == "1.00 (0.48 to 1.83)"
    assert Estimate.of_rates([one, other]).text(".2f") == "1.20 (0.00 to 3.74)"  # never below 0


# --- experiments -----------------------------------------------------------------------------------------------------


def test_runs_are_compared_when_all_but_setting_and_seed_agrees(make: Make) -> None:
    config = TrainConfig(epochs=2)
    made = [make(replace(config, alpha=0, beta=0, seed=seed)) for seed in (2, 0, 1)] + [make(config)]
    longer = make(replace(config, epochs=3))
    first, second = experiments([*made, longer])
    assert (first.slug, second.slug) == ("digits", "digits-2")
    assert first.evaluations == [longer]
    assert list(second.settings) == [BASELINE, ADP]
    assert [result.seed for result in second.results(BASELINE)] == [0, 1, 2]
    assert (first.title, second.title) == ("digits: 3 x cnn, 3 epochs", "digits: 3 x cnn, 2 epochs")


def test_one_training_never_counts_twice(make: Make) -> None:
    config = TrainConfig(epochs=2)
    with pytest.raises(InputError, match=r"copy: expected runs that differ in settings or seed, found .* seed of made"):
        experiments([make(config), make(config, name="copy")])


# --- the table -------------------------------------------------------------------------------------------------------


def test_ours_stand_beside_the_papers(make: Make) -> None:
    config = settings_of("mnist")
    baseline = [make(replace(config, alpha=0, beta=0), (0.40, 0.50, 0.43, 0.30))]
    adp = [make(replace(config, seed=seed), (0.5, 0.5, 0.5, error)) for seed, error in enumerate((0.35, 0.37, 0.39))]
    table = rows(error_table("mnist", {BASELINE: results(baseline), ADP: results(adp)}))
    assert table[0] == [
        "error in %",
        "Baseline, paper",
        "Baseline, ours, 1 seed",
        "ADP<sub>2,0</sub>, paper",
        "ADP<sub>2,0</sub>, ours",
        "ADP<sub>2,0.5</sub>, paper",
        "ADP<sub>2,0.5</sub>, ours, 3 seeds",
    ]
    assert [row[0] for row in table[1:]] == ["Net 1", "Net 2", "Net 3", "Ensemble", "Ensemble less baseline's"]
    assert [row[1] for row in table[1:]] == ["0.44", "0.39", "0.43", "0.32", "-"]
    assert table[1][2] == "0.40 (0.29 to 0.54); -0.04"
    assert table[2][2].endswith("; **+0.11**")
    assert table[3][2].endswith("; +0.00")
    assert {row[4] for row in table[1:]} == {"not run"}
    assert table[4][6] == "0.37 (0.32 to 0.42); **+0.09**"
    assert [row[5] for row in table[4:]] == ["0.28", "-0.04"]
    assert [row[6] for row in table[5:]] == ["**+0.07**"]


def test_rows_follow_the_larger_ensemble(make: Make) -> None:
    config = replace(settings_of("mnist"), alpha=1)
    two = rows(error_table("mnist", {Setting(1.0, 0.5): results([make(config, (1, 1, 1))])}))
    four = rows(error_table("mnist", {Setting(1.0, 0.5): results([make(config, (1, 1, 1, 1, 1))])}))
    column = two[0].index("ADP<sub>1,0.5</sub>, ours, 1 seed")
    assert [row[column - 1] for row in two[1:]] == ["-"] * 5  # the paper has no such setting
    assert [row[column] for row in two[1:]] == ["1.00 (0.81 to 1.21)"] * 2 + ["-", "1.00 (0.81 to 1.21)", "-"]
    assert len(four) == len(two) + 1
    assert [row[1] for row in four[3:6]] == ["0.43", "-", "0.32"]


def test_a_data_set_the_paper_has_not_has_no_paper_columns(make: Make) -> None:
    table = rows(error_table("digits", {ADP: results([make(TrainConfig())])}))
    assert table[0] == ["error in %", "ADP<sub>2,0.5</sub>, ours, 1 seed"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"alpha": 0.0, "beta": 0.0, "seed": 7, "sequential": True, "compile": True}, []),
        ({"epochs": 30}, ["epochs: 30, not 180"]),
        ({"augment": "none", "precision": "bfloat16"}, ["augment: 'none', not 'shift-flip'", "precision: 'bfloat16'"]),
    ],
    ids=["paper", "free", "short", "other"],
)
def test_deviations_from_the_paper_are_named(changes: dict[str, Any], found: list[str]) -> None:
    said = deviations(replace(settings_of("cifar10"), **changes))
    assert [text.startswith(start) for text, start in zip(said, found, strict=True)] == [True] * len(found)


# --- the page --------------------------------------------------------------------------------------------------------


def section(text: str, title: str) -> str:
    """What stands below a heading that starts so."""
    return next(part for part in text.split("\n## ") if part.startswith(title))


def shown(groups: Sequence[Experiment]) -> str:
    return page(groups, {group.slug: f"picture of {group.slug}" for group in groups}, PROVENANCE)


def test_a_run_in_bfloat16_alone_may_stand_beside_the_papers(make: Make) -> None:
    config = replace(settings_of("cifar10"), precision="bfloat16")
    text = section(shown(experiments([make(config)])), "CIFAR-10")
    assert "The paper's recipe in full, but for networks that compute in bfloat16; on fewer images." in text
    assert "not comparable" not in text
    other = section(shown(experiments([make(replace(config, augment="none"))])), "CIFAR-10")
    assert "**Not the paper's recipe; not comparable with the paper's figures.**" in other


def test_a_short_run_is_labelled(make: Make) -> None:
    full = settings_of("cifar10")
    short, whole = (
        section(shown(experiments([make(config)])), "CIFAR-10") for config in (replace(full, epochs=9), full)
    )
    assert "**A short run; not comparable with the paper's figures.** Where it differs: epochs: 9, not 180." in short
    assert "The paper's recipe in full, on fewer training images." in whole
    assert "Trained on 45,000 images, with 2,500 for validation and 2,501 for calibration held out" in whole
    assert "of each the epoch kept is the best on validation" in whole


def test_what_was_not_run_is_shown_with_its_command(make: Make) -> None:
    text = shown(experiments([make(replace(settings_of("cifar10"), epochs=9, seed=4))]))
    here = section(text, "CIFAR-10")
    assert "Not run: Baseline, ADP<sub>2,0</sub>." in here
    assert "--recipe paper --epochs 9 --settings baseline adp-2-0 --seeds 4 " in here
    missing = section(text, "CIFAR-100: not run")
    assert "--datasets cifar100 --arch resnet20 --members 3 --recipe paper --settings baseline adp-2-0.5 " in missing
    assert "| Ensemble                 | 30.35 " in missing
    assert "MNIST: not run" in text


def test_every_data_set_and_every_run_is_on_the_page(make: Make) -> None:
    config = settings_of("cifar10")
    runs = [make(config, name="one"), make(replace(config, seed=1), name="two"), make(TrainConfig(), name="three")]
    text = shown(experiments(runs))
    assert [dataset for dataset in TABLE1 if text.lower().replace("-", "").count(f"## {dataset}:") != 1] == []
    assert all(f" {name} " in text for name in ("one", "two", "three"))
    assert "picture of cifar10" in section(text, "CIFAR-10:")
    assert "picture of digits" in section(text, "digits")


# --- pictures --------------------------------------------------------------------------------------------------------


def test_hidden_features_are_what_the_last_layer_is_given(trained: Run, digits: Dataset) -> None:
    ensemble, _ = trained.trained()
    images = take(digits, "test")
    logits = predict(ensemble, images, batch_size=len(images))
    for k, member in enumerate(ensemble.members):
        features = hidden_features(ensemble, images, k)
        assert features is not None
        head = [layer for layer in member.modules() if isinstance(layer, nn.Linear)][-1]
        by_hand = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        assert np.allclose(by_hand, logits[:, k], atol=1e-4)


class Unordered(nn.Module):
    """Its last layer is made first, and one that never runs is made last."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body, self.unused = nn.Linear(5, 10), nn.Linear(64, 5), nn.Linear(7, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.flatten(1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "width"), [(Unordered(), 5), (nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten()), None)], ids=str
)
def test_the_linear_layer_that_runs_last_counts(network: nn.Module, width: int | None, digits: Dataset) -> None:
    ensemble = Ensemble([Member(network, torch.zeros(1), torch.ones(1))]).eval()
    features = hidden_features(ensemble, take(digits, "validation"), 0)
    assert (None if features is None else features.shape[1]) == width


def test_histogram_shows_every_image() -> None:
    scores = np.array([-math.inf, -1e6, -100, -1, -1, -0.5, -1e-4, -1e-9, 0.0])
    figure = histogram({BASELINE: scores, ADP: scores[3:5]}, "title")
    outlines = [container for container in figure.axes[0].patches if container.get_fill()]
    for outline in outlines:  # a filled outline's corners: twice each bar's height, and the way back along zero
        heights = outline.get_xy()[:, 1]  # type: ignore[attr-defined]
        assert heights.sum() / 2 == pytest.approx(100)
    assert len(outlines) == 2
    assert outside(scores) == 4


def test_histogram_zooms_to_what_there_is() -> None:
    axes = histogram({ADP: np.array([-0.02, -0.03, -0.5])}, "title").axes[0]
    assert axes.get_xlim() == pytest.approx((1, 0.01))


def test_scatter_has_a_panel_for_each_net_and_setting() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    features = (rng.normal(size=(40, 6)) + 9 * np.eye(6)[labels]).astype(np.float32)
    points = embed(features, seed=0)
    assert np.array_equal(points, embed(features, seed=0))
    centres = np.array([points[labels == label].mean(axis=0) for label in range(4)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert np.array_equal(nearest, labels)  # what lies together stays together
    figure = scatter({BASELINE: [points] * 3, ADP: [points] * 3}, labels, ("a", "b", "c", "d"), "title")
    assert [axes.get_title() for axes in figure.axes] == ["Net 1", "Net 2", "Net 3", "", "", ""]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "d"]
