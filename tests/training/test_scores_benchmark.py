"""The study of scores: its parts against their twins, what its designs do, and that it runs on a small run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from benchmarks import scores
from benchmarks.score_aware import Viewed, aimed
from benchmarks.score_designs import Design, Kept, Learnt, OneOf, Part, Plain, Relative, Steady, designs, views
from benchmarks.score_tables import BEGIN, END, table
from detector.outputs import Outputs
from detector.prediction import mean_prediction
from detector.scores import score_named
from detector.scores.mahalanobis import Mahalanobis
from detector.shifts import MILD
from training import Run


def some_logits(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(V, N, K, L): members that agree more or less, and views that say nearly the same."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3, 6)) * 2
    logits[np.arange(count), :, rng.integers(6, size=count)] += rng.uniform(2, 8, size=(count, 1))
    return np.stack([logits, *(logits + rng.normal(size=(2, count, 3, 6)))]).astype(np.float32)


PARTS = [
    Plain(score_named("energy")),
    Plain(Mahalanobis().fit(some_logits(300, 1)[0])),
    Relative(some_logits(300, 1)[0], 0.5),
    Kept(),
    Steady(some_logits(300, 1)),
]


@pytest.mark.parametrize("part", PARTS, ids=["score", "mahalanobis", "relative", "kept", "steady"])
def test_a_part_agrees_with_its_twin(part: Part) -> None:
    logits = some_logits(100)
    labels = torch.from_numpy(mean_prediction(logits[0]).argmax(axis=1))
    found = part.twin([torch.from_numpy(each) for each in logits], labels).numpy()
    np.testing.assert_allclose(found, part.of(logits), rtol=1e-5, atol=1e-5)


def test_nothing_of_the_other_gaussian_leaves_mahalanobis_and_all_of_it_the_ratio_of_two_densities() -> None:
    clean, logits = some_logits(300, 1)[0], some_logits(100)
    own = Mahalanobis().fit(clean).of(logits[0])
    np.testing.assert_array_equal(Relative(clean, 0.0).of(logits), own)

    def values(of: NDArray[np.float32]) -> NDArray[np.float64]:
        exact = of.astype(np.float64)
        return np.asarray((exact - np.log(np.exp(exact).sum(axis=2, keepdims=True))).reshape(len(of), -1))

    fit = values(clean)
    spread = fit.std(axis=0)
    covariance, _ = ledoit_wolf((fit - fit.mean(axis=0)) / spread, assume_centered=True)
    wide = multivariate_normal(fit.mean(axis=0), (covariance + 1e-6 * np.eye(len(spread))) * np.outer(spread, spread))
    np.testing.assert_allclose(Relative(clean, 1.0).of(logits), own - wide.logpdf(values(logits[0])), atol=1e-6)


def test_kept_in_a_view_that_changes_nothing_are_the_log_odds() -> None:
    logits = some_logits(50)
    same = np.stack([logits[0]] * 3)
    np.testing.assert_allclose(Kept().of(same), Outputs(logits[0]).log_odds, rtol=1e-9)


def test_steady_has_two_sides() -> None:
    clean = some_logits(300, 1)
    still, wild = clean.copy(), clean.copy()
    still[2] = clean[0] + 0.01 * (clean[2] - clean[0])
    wild[2] = clean[0] + 100 * (clean[2] - clean[0])
    usual = np.median(Steady(clean).of(clean))
    assert Steady(clean).of(still).max() < usual
    assert Steady(clean).of(wild).max() < usual


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_those_of_their_twins(channels: int) -> None:
    images = np.random.default_rng(0).random((4, channels, 5, 7), dtype=np.float32)
    first, noise = views(channels)
    found = np.stack([first.change.apply(image, n) for n, image in enumerate(images)])
    np.testing.assert_array_equal(found, first.twin(torch.from_numpy(images)).numpy())
    assert (found != images).any()
    drawn = noise.twin(torch.from_numpy(images)).numpy() - images
    assert 0.01 < drawn.std() < 0.03


def test_one_of_several_is_one_of_them_and_each_has_its_turn() -> None:
    image = np.random.default_rng(0).random((3, 9, 8), dtype=np.float32)
    kinds = []
    for number in range(100):
        found = OneOf(MILD).apply(image, number)
        kinds += [shift.name for shift in MILD if np.array_equal(shift.apply(image, number), found)]
    assert len(kinds) == 100
    assert min(kinds.count(shift.name) for shift in MILD) >= 10


def test_the_lowest_rank_decides_and_orders_beyond_the_clean_ones() -> None:
    clean = some_logits(300, 1)
    parts = [Plain(score_named("energy")), Plain(score_named("entropy"))]
    both, alone = Design("both", parts, clean), [Design("one", [part], clean) for part in parts]
    others = some_logits(200, 2)
    ranks = [np.array([(one.of(clean) <= value).mean() for value in one.of(others)]) for one in alone]
    np.testing.assert_allclose(both.of(others), np.minimum(*ranks), atol=0.01)
    assert len(np.unique(both.of(others))) == 200
    assert both.runs == 1
    assert Design("views", [parts[0], Kept(), Steady(clean)], clean).runs == 3


def test_identical_members_have_a_rank() -> None:
    clean = some_logits(300, 1)
    design = Design("both", [Plain(score_named("log_diversity")), Plain(score_named("energy"))], clean)
    same = np.repeat(some_logits(5, 3)[:, :, :1], 3, axis=2)
    assert np.isfinite(design.of(same)).all()
    assert design.of(same).max() < 0.01


def test_the_attacker_gets_what_he_aims_at(run: Run) -> None:
    """Higher scores of wrong answers than an attacker has who does not look at the score."""
    study = scores.Study(run.path, scores.parse([str(run.path)]))
    images = study.images("validation", 20)
    clean = study.answers(study.images("calibration", 200), None)
    design = Design("entropy", [Plain(score_named("entropy"))], clean)
    assert images.labels is not None
    pixels = torch.from_numpy(images.images).float()
    pixels = pixels / 255 if images.images.dtype == np.uint8 else pixels
    labels = torch.from_numpy(images.labels)
    *_, last = aimed(design, study.victim.ensemble, study.views, pixels, labels, images.rows, eps=0.4, steps=20)
    first, *_ = aimed(design, study.victim.ensemble, study.views, pixels, labels, images.rows, eps=0.4, steps=20)
    assert (last - pixels).abs().max() <= 0.4
    with torch.no_grad():
        logits = Viewed(study.victim.ensemble, ())(first).numpy()
    wrong = mean_prediction(logits).argmax(axis=1) != images.labels
    passing = design.of(logits[None]) >= np.median(design.of(clean))
    assert (wrong & passing).mean() > 0.5


def test_it_runs(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(run.path), "--cache", str(tmp_path), "--n", "8", "--few", "2", "--aware", "4", "--steps", "2"]
    out = tmp_path / "scores.json"
    page = tmp_path / "page.md"
    page.write_text(f"before {BEGIN} old {END} after\n")
    assert scores.main([*words, "--changed", "60", "--out", str(out), "--page", str(page)]) == 0
    (found,) = json.loads(out.read_text())["runs"]
    said = capsys.readouterr().out
    assert page.read_text() == f"before {BEGIN}\n\n{said.strip()}\n\n{END} after\n"
    assert found["images"]["fit"] >= 100
    learnt = Learnt(some_logits(200), some_logits(200, 1))
    assert list(found["designs"]) == [design.name for design in designs(learnt)]
    for name, row in found["designs"].items():
        assert f"| {name} | {row['runs']} | " in said
        at, lowered = row["clean_flagged"]
        assert 0 <= lowered <= at <= 0.2
        for attack in row["attacks"].values():
            assert attack["auc"]["low"] <= attack["auc"]["value"] <= attack["auc"]["high"]
    assert len(found["designs"]["typicality"]["attacks"]) == 7
    kept = len(list(tmp_path.glob("*.npz")))
    assert scores.main([*words, "--changed", "60"]) == 0
    assert len(list(tmp_path.glob("*.npz"))) == kept
    figures = said[said.index("Right: ") :]  # before them is when it ran
    assert capsys.readouterr().out.endswith(figures)


def test_an_attack_without_a_success_has_no_area_of_successful_ones(run: Run, tmp_path: Path) -> None:
    words = [str(run.path), "--cache", str(tmp_path), "--n", "8", "--few", "2", "--aware", "0", "--changed", "60"]
    found = scores.measure(run.path, scores.parse(words))
    every, successful = (found["designs"]["entropy"]["attacks"]["fgsm-0.3"][key] for key in ("auc", "successful"))
    assert f"{every['value']:.3f} ({every['low']:.3f} to {every['high']:.3f})" in table(found)
    assert f"fgsm-0.3, n = {successful} |" in table(found)
    for row in found["designs"].values():
        row["attacks"]["fgsm-0.3"] |= {"auc_successful": None, "successful": 0}
    assert "| fgsm-0.3, n = 0 |" in table(found)
    assert " | - | " in table(found)
