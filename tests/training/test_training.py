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
from torch import Tensor

from detector.errors import InputError, RunError
from detector.imageset import ImageSet
from training import Run, TrainConfig, load, train
from training.checkpoint import Checkpoint, digest
from training.splits import split_rows
from training.trainer import Trainer, predict

# Trains like `train`, and kills its own process where it hurts: `before` while the checkpoint of the
# second epoch is written, `after` when it is in place but its line of metrics is not yet written.
KILLED = """
import json, os, signal, sys
from pathlib import Path
import training.checkpoint, training.run
from training import TrainConfig, train

where, config, out = sys.argv[1:]
save, line = training.checkpoint.torch.save, training.run._line

def save_and_die(state, part):
    save(state, part)
    if where == "before" and state["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)

def line_and_die(metrics):
    if where == "after" and metrics["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return line(metrics)

training.checkpoint.torch.save, training.run._line = save_and_die, line_and_die
train(TrainConfig.from_json(config), out)
"""


def kill_while_training(where: str, config: TrainConfig, out: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, config.to_json(), out],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def weights(run: Run) -> dict[str, Tensor]:
    checkpoint = run.checkpoint()
    assert checkpoint is not None
    return checkpoint.ensemble


def test_it_learns(run: Run) -> None:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.6
    assert len(lines[-1]["member_accuracy"]) == 2
    assert lines[-1]["median_log_diversity"] < 0


def test_what_is_loaded_is_what_was_measured(run: Run, validation: ImageSet) -> None:
    ensemble, checkpoint = run.trained()
    assert digest(ensemble.state_dict()) == digest(checkpoint.ensemble)
    classes = predict(ensemble, validation, batch_size=7).argmax(axis=2)
    found = (classes == np.asarray(validation.labels)[:, None]).mean(axis=0)
    assert found.tolist() == checkpoint.metrics[-1]["member_accuracy"]


def test_the_same_settings_give_the_same_bits(run: Run, quick: TrainConfig, tmp_path: Path) -> None:
    again = train(quick, tmp_path / "again", progress=False)
    assert digest(weights(again)) == digest(weights(run))
    assert (again.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_training_goes_on_to_the_same_bits(run: Run, quick: TrainConfig, tmp_path: Path, where: str) -> None:
    out = tmp_path / "killed"
    kill_while_training(where, quick, out)
    killed = Run.open(out)
    checkpoint = killed.checkpoint()
    assert checkpoint is not None
    assert checkpoint.epoch == (1 if where == "before" else 2)
    with pytest.raises(RunError, match=f"expected a finished run, found {checkpoint.epoch} of 4 epochs"):
        killed.trained()

    resumed = train(quick, out, progress=False)
    assert digest(weights(resumed)) == digest(weights(run))
    assert sorted(file.name for file in out.iterdir()) == ["checkpoint.pt", "config.json", "lock", "metrics.jsonl"]
    assert (out / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()


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


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    tmp_path: Path, quick: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def failing(self: Trainer, images: Tensor, labels: Tensor) -> float:
        failing.steps += 1  # type: ignore[attr-defined]
        return float("nan") if failing.steps > self.steps + 3 else step(self, images, labels)  # type: ignore[attr-defined]

    failing.steps = 0  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", failing)
        message = (
            r"found nan in step 4, epoch 2; the last good checkpoint is that of epoch 1\. .* --learning-rate below"
        )
        with pytest.raises(RunError, match=message):
            train(replace(quick, epochs=2), tmp_path / "run", progress=False)
    checkpoint = Run.open(tmp_path / "run").checkpoint()
    assert checkpoint is not None
    assert checkpoint.epoch == 1
    assert all(torch.isfinite(value).all() for value in checkpoint.ensemble.values())


def test_a_learning_rate_far_too_high_ends_in_one_error(tmp_path: Path, quick: TrainConfig) -> None:
    with pytest.raises(RunError, match="--learning-rate below 1e\\+30"):
        train(replace(quick, learning_rate=1e30), tmp_path / "run", progress=False)
    assert Run.open(tmp_path / "run").checkpoint() is None


def test_training_gives_torchs_state_back(quick: TrainConfig, tmp_path: Path) -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train(replace(quick, epochs=1), tmp_path / "run", progress=False, threads=threads + 1)
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
    replace(checkpoint, ensemble={"weight": torch.zeros(2)}).save(copied / "checkpoint.pt")
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
    assert state["members.0.mean"].item() == pytest.approx(digits.images[rows].mean(), rel=1e-5)
    assert state["members.1.std"].item() == pytest.approx(digits.images[rows].std(), rel=1e-3)
