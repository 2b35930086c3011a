"""Training: what it learns, that it is the same twice, and that it survives being killed."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from detector.diversity import log_diversity
from detector.errors import InputError, RunError
from detector.imageset import ImageSet
from detector.prediction import mean_prediction
from training import Dataset, Run, TrainConfig, load, train
from training.checkpoint import Checkpoint, digest
from training.loop import UnevenClasses
from training.splits import split_rows
from training.trainer import Trainer, pixel_statistics, predict

# Trains like `train`, and kills its own process when the checkpoint of the second epoch is in place; `test_loop` has
# the other moments.
KILLED = """
import os, signal, sys
import training.run
from training import TrainConfig, train

config, out = sys.argv[1:]
line = training.run._line

def line_and_die(metrics):
    if metrics["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return line(metrics)

training.run._line = line_and_die
train(TrainConfig.from_json(config), out)
"""


def kill_while_training(config: TrainConfig, out: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, config.to_json(), out],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def measured(run: Run) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, but for the time they took."""
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def weights(run: Run) -> dict[str, Tensor]:
    checkpoint = run.checkpoint()
    assert checkpoint is not None
    return checkpoint.ensemble


def test_it_learns(run: Run) -> None:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.6
    assert all(len(lines[-1][name]) == 3 for name in ("member_accuracy", "member_loss"))
    assert lines[-1]["median_log_diversity"] < 0


def test_what_is_measured_of_an_epoch(run: Run, validation: ImageSet) -> None:
    *_, last = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert last.pop("seconds") > 0
    assert f"torch {torch.__version__}" in last.pop("machine")
    assert set(last) == {
        "epoch", "loss", "cross_entropy", "entropy", "log_diversity", "accuracy",
        "member_accuracy", "member_loss", "median_log_diversity", "js_divergence",
    }  # fmt: skip
    parts = last["cross_entropy"] - 2 * last["entropy"] - 0.5 * last["log_diversity"]
    assert last["loss"] == pytest.approx(parts, rel=1e-9)

    logits = predict(run.trained()[0], validation, batch_size=64)
    labels = np.asarray(validation.labels)
    probabilities = softmax(logits.astype(np.float64), axis=2)
    own = probabilities[np.arange(len(labels)), :, labels]
    assert last["accuracy"] == (probabilities.mean(axis=1).argmax(axis=1) == labels).mean()
    assert last["member_loss"] == pytest.approx(list(-np.log(own).mean(axis=0)), rel=1e-9)
    spread = entropy(probabilities.mean(axis=1), axis=1) - entropy(probabilities, axis=2).mean(axis=1)
    assert last["js_divergence"] == pytest.approx(spread.mean(), rel=1e-6)
    assert last["median_log_diversity"] == np.median(log_diversity(logits))


def test_terms_without_weight_are_not_measured(tmp_path: Path, quick: TrainConfig) -> None:
    baseline = train(replace(quick, alpha=0.0, beta=0.0, epochs=1), tmp_path / "baseline", progress=False)
    assert not {"entropy", "log_diversity"} & set(measured(baseline)[0])


def test_the_best_epoch_on_validation_is_kept(tmp_path: Path, quick: TrainConfig, validation: ImageSet) -> None:
    """Of a network that forgets all in its second epoch."""
    settings = replace(quick, arch="own_networks:Spoiling", epochs=2, keep="best", learning_rate=1e-2)
    spoilt = train(settings, tmp_path / "run", progress=False)
    first, second = measured(spoilt)
    assert first["accuracy"] > second["accuracy"]
    ensemble, checkpoint = spoilt.trained()
    assert checkpoint.kept_epoch == 1
    assert digest(checkpoint.kept) != digest(checkpoint.ensemble)
    logits = predict(ensemble, validation, batch_size=64)
    assert (mean_prediction(logits).argmax(axis=1) == validation.labels).mean() == first["accuracy"]


def test_training_ends_when_all_members_have_converged(tmp_path: Path, quick: TrainConfig) -> None:
    """With next to no learning rate, nothing falls."""
    settings = replace(quick, learning_rate=1e-12, schedule="constant", patience=1, epochs=30, batch_size=256)
    ended = train(settings, tmp_path / "run", progress=False)
    assert len(measured(ended)) < 10
    ended.trained()
    before = (ended.path / "checkpoint.pt").read_bytes()
    train(settings, ended.path, progress=False)
    assert (ended.path / "checkpoint.pt").read_bytes() == before


def test_a_converged_member_stands_still_and_a_resumed_run_decides_alike(tmp_path: Path, quick: TrainConfig) -> None:
    """Member 2 hardly moves, so that it has converged after two epochs: just when the process is killed."""
    rates = (2e-3, 2e-3, 1e-12)
    settings = replace(quick, learning_rate=rates, schedule="constant", patience=1, epochs=3)
    unbroken = train(settings, tmp_path / "unbroken", progress=False)
    frozen = [epoch["frozen"] for epoch in measured(unbroken)]
    assert frozen == [[], [], [2]]
    _, second, third = measured(unbroken)
    assert second["member_loss"][2] == third["member_loss"][2]
    assert second["member_loss"][0] != third["member_loss"][0]

    kill_while_training(settings, tmp_path / "killed")
    at_freezing = weights(Run.open(tmp_path / "killed"))
    for name, value in weights(unbroken).items():
        if name.startswith("members.2."):  # weights and batch normalisation's statistics
            assert torch.equal(value, at_freezing[name]), name
        elif name.endswith(("weight", "running_mean")):
            assert not torch.equal(value, at_freezing[name]), name

    resumed = train(settings, tmp_path / "killed", progress=False)
    assert digest(weights(resumed)) == digest(weights(unbroken))
    assert measured(resumed) == measured(unbroken)


@pytest.mark.parametrize(
    "settings",
    [
        {"adversarial": "fgsm"},
        {"adversarial": "pgd", "arch": "own_networks:Plain"},
        {"sampled_classes": 4, "temperature": 2.0},
        {"sequential": True, "arch": "own_networks:Dropping", "optimiser": "sgd", "learning_rate": 0.05},
        {"normalise": "pixel", "augment": "shift", "schedule": "steps", "milestones": (0.5,), "weight_decay": 1e-4},
        {"growing": True, "augment": "shift-flip", "schedule": "one-cycle"},
        {"optimiser": "muon", "learning_rate": 0.01, "schedule": "one-cycle"},
    ],
    ids=["fgsm", "pgd", "appendix-b2", "sequential", "paper", "growing", "fast"],
)
def test_every_part_of_the_method_learns(tmp_path: Path, quick: TrainConfig, settings: dict[str, Any]) -> None:
    trained = train(replace(quick, **{"epochs": 2, **settings}), tmp_path / "run", progress=False)
    first, second = measured(trained)
    assert second["loss"] < first["loss"]


def test_a_member_count_that_does_not_divide_the_others_is_warned_of(tmp_path: Path, quick: TrainConfig) -> None:
    """Section 4.6; it trains all the same."""
    with pytest.warns(UnevenClasses, match="members: 4 does not divide 10 - 1 classes"):
        uneven = train(replace(quick, members=4, epochs=1), tmp_path / "run", progress=False)
    assert len(measured(uneven)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 5000}, "batch_size: expected at most the [0-9]+ training images, found 5000"),
        ({"sampled_classes": 10}, "sampled_classes: expected at most 9, found 10"),
        ({"arch": "own_networks:TwoHeads"}, "arch: expected 'own_networks:TwoHeads' to return .2, 10. logits"),
        ({"arch": "resnet18"}, "arch: expected images of 3 channels for torchvision's resnet18, found 1"),
    ],
)
def test_settings_that_do_not_fit_the_data_leave_no_folder(
    tmp_path: Path, quick: TrainConfig, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(replace(quick, **settings), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_growing_images_want_a_network_that_takes_them(quick: TrainConfig) -> None:
    images = np.zeros((200, 1, 32, 32), dtype=np.uint8)
    labels = np.arange(200) % 10
    large = Dataset(name="digits", images=images, labels=labels, class_names=tuple("0123456789"))
    with pytest.raises(
        InputError, match=r"arch: expected 'own_networks:Flat' to take images of \(1, (16|24), (16|24)\)"
    ):
        Trainer(replace(quick, arch="own_networks:Flat", growing=True), large)
    Trainer(replace(quick, arch="own_networks:Flat"), large)


def test_what_is_loaded_is_what_was_measured(run: Run, validation: ImageSet) -> None:
    ensemble, checkpoint = run.trained()
    assert digest(ensemble.state_dict()) == digest(checkpoint.ensemble)
    classes = predict(ensemble, validation, batch_size=7).argmax(axis=2)
    found = (classes == np.asarray(validation.labels)[:, None]).mean(axis=0)
    assert found.tolist() == checkpoint.metrics[-1]["member_accuracy"]


def test_the_same_settings_give_the_same_bits(run: Run, quick: TrainConfig, tmp_path: Path) -> None:
    again = train(quick, tmp_path / "again", progress=False)
    assert digest(weights(again)) == digest(weights(run))
    assert measured(again) == measured(run)


def test_a_finished_run_is_left_alone(run: Run, quick: TrainConfig) -> None:
    before = (run.path / "checkpoint.pt").stat().st_mtime_ns
    train(quick, run.path, progress=False)
    assert (run.path / "checkpoint.pt").stat().st_mtime_ns == before


def test_other_settings_are_refused(run: Run, quick: TrainConfig) -> None:
    with pytest.raises(RunError, match=r"expected the settings this run was started with \(beta: 0.5, not 0.25;"):
        train(replace(quick, beta=0.25, epochs=9), run.path, progress=False)


def test_a_folder_that_is_no_run_is_refused_and_kept(quick: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"expected a training run's folder, found a folder without config.json"):
        train(quick, tmp_path, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]


def test_two_processes_cannot_train_one_run(copied: Path, quick: TrainConfig) -> None:
    with Run.open(copied).locked(), pytest.raises(RunError, match="found another process at it"):
        train(quick, copied, progress=False)


def test_more_members_than_the_classes_allow_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="members: expected at most 9 for 10 classes, found 10"):
        train(TrainConfig(members=10), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            "Diverging",
            r"^loss: expected a finite number, found nan by step 6, epoch 2; the last good checkpoint is that of epoch "
            r"1\. Train into a new folder with a --learning-rate below 0.002, or a --beta below 0.5$",
        ),
        (
            "Greedy",
            r"^memory: ran out of it on cpu; the last good checkpoint is kept\. Train into a new folder with a "
            r"--batch-size below 64, or with --sequential$",
        ),
    ],
)
def test_what_goes_wrong_on_the_way_keeps_the_last_good_checkpoint(
    tmp_path: Path, quick: TrainConfig, network: str, message: str
) -> None:
    """The networks themselves go wrong after 20 steps: 15 are an epoch."""
    failing = replace(quick, arch=f"own_networks:{network}", epochs=3)
    with pytest.raises(RunError, match=message):
        train(failing, tmp_path / "run", progress=False)
    checkpoint = Run.open(tmp_path / "run").checkpoint()
    assert checkpoint is not None
    assert checkpoint.epoch == 1
    assert all(torch.isfinite(value).all() for value in checkpoint.ensemble.values())


def test_advice_is_about_what_can_be_changed(quick: TrainConfig, tmp_path: Path) -> None:
    settings = replace(quick, beta=0.0, sequential=True, learning_rate=1e30)
    with pytest.raises(RunError, match=r"there is no checkpoint yet\. Train .* with a --learning-rate below 1e\+30$"):
        train(settings, tmp_path / "diverging", progress=False)
    with pytest.raises(RunError, match=r"a --batch-size below 64$"):
        train(replace(settings, arch="own_networks:Greedy", learning_rate=1e-3), tmp_path / "greedy", progress=False)


def test_a_learning_rate_far_too_high_ends_in_one_error(tmp_path: Path, quick: TrainConfig) -> None:
    with pytest.raises(RunError, match="--learning-rate below 1e\\+30"):
        train(replace(quick, learning_rate=1e30), tmp_path / "run", progress=False)
    assert Run.open(tmp_path / "run").checkpoint() is None


def test_training_gives_torchs_state_back(quick: TrainConfig, tmp_path: Path) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    settings = replace(quick, arch="own_networks:Plain", epochs=1, batch_size=512)
    train(settings, tmp_path / "run", progress=False, threads=threads + 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_on_no_thread_is_refused(quick: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="threads: expected at least 1, found 0"):
        train(quick, tmp_path / "run", progress=False, threads=0)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "foreign"])
def test_a_damaged_checkpoint_gives_one_error(copied: Path, quick: TrainConfig, damage: str) -> None:
    file = copied / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    if damage == "flipped":  # a bit of a weight, which torch would not notice
        content[len(content) // 2] ^= 4
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, file)
        content = bytearray(file.read_bytes())
    broken = {"cut": content[: len(content) // 2], "empty": bytearray(), "text": bytearray(b"weights")}
    file.write_bytes(broken.get(damage, content))
    for read in (lambda: train(quick, copied, progress=False), lambda: Run.open(copied).trained()):
        with pytest.raises(RunError, match=r"checkpoint\.pt: expected .*train again into a new folder") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_noticed_or_harmless(copied: Path) -> None:
    file = copied / "checkpoint.pt"
    content = file.read_bytes()
    intact = digest(vars(Checkpoint.load(file)))
    for position in np.random.default_rng(0).integers(len(content), size=60).tolist():
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            found = digest(vars(Checkpoint.load(file)))
        except RunError:
            continue
        assert found == intact


def test_another_runs_checkpoint_is_refused(copied: Path) -> None:
    config = TrainConfig.from_json((copied / "config.json").read_text())
    (copied / "config.json").write_text(replace(config, seed=99).to_json())
    with pytest.raises(RunError, match="expected this run's checkpoint, found one made with other settings"):
        Run.open(copied).trained()


def test_weights_of_another_architecture_are_refused(copied: Path) -> None:
    checkpoint = Checkpoint.load(copied / "checkpoint.pt")
    replace(checkpoint, kept={"weight": torch.zeros(2)}).save(copied / "checkpoint.pt")
    with pytest.raises(RunError, match="expected weights of 'cnn' as this version of ledgate builds it"):
        Run.open(copied).trained()


@pytest.mark.parametrize("text", ["", "{}", "[1]"])
def test_settings_that_cannot_be_read_are_named(copied: Path, text: str) -> None:
    (copied / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json: expected"):
        Run.open(copied)


@pytest.mark.parametrize("what", ["nothing", "file"])
def test_open_names_what_it_found(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run"
    if what == "file":
        path.write_text("")
    with pytest.raises(RunError, match=f"{path}: expected a training run's folder, found (nothing|a file)"):
        Run.open(path)


def test_infinite_diversity_is_written_as_json(copied: Path) -> None:
    run = Run.open(copied)
    metrics: list[dict[str, Any]] = [{"epoch": 1, "median_log_diversity": -np.inf}]
    run.rewrite_metrics(metrics)
    assert json.loads((copied / "metrics.jsonl").read_text()) == {"epoch": 1, "median_log_diversity": "-Infinity"}


def test_images_are_normalised_by_the_training_part_alone(quick: TrainConfig) -> None:
    digits = load("digits")
    trainer = Trainer(quick, digits)
    rows = split_rows(digits)["train"]
    state = trainer.ensemble.state_dict()
    assert state["members.0.mean"].shape == (1, 1, 1)
    assert state["members.0.mean"].item() == pytest.approx(digits.images[rows].mean(), rel=1e-5)
    assert state["members.1.std"].item() == pytest.approx(digits.images[rows].std(), rel=1e-3)


def test_each_pixels_mean_is_of_the_training_part_alone(quick: TrainConfig) -> None:
    digits = load("digits")
    state = Trainer(replace(quick, normalise="pixel"), digits).ensemble.state_dict()
    expected = digits.images[split_rows(digits)["train"]].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(state["members.2.mean"].numpy(), expected, rtol=1e-6)
    assert (state["members.2.std"] == 1).all()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_pixel_statistics_are_those_of_all_at_once(kind: type) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(5000, 3, 4, 5), dtype=np.uint8)  # more than one chunk
    images[:, 2] = 7
    given = images if kind is np.uint8 else (images / 255).astype(np.float32)
    rows = np.flatnonzero(rng.random(5000) < 0.95)
    exact = images[rows] / 255
    mean, std = pixel_statistics(given, rows, "channel")
    np.testing.assert_allclose(mean.numpy().ravel(), exact.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy().ravel()[:2], exact.std(axis=(0, 2, 3))[:2], rtol=1e-5)
    assert 0 < std.ravel()[2] < 1e-3  # never 0, which nothing can be divided by
    mean, std = pixel_statistics(given, rows, "pixel")
    np.testing.assert_allclose(mean.numpy(), exact.mean(axis=0), rtol=1e-6)
    assert torch.equal(std, torch.ones(3, 4, 5))
