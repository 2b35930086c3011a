"""The loop around the epochs: what a killed process or a full disk leave, and that training goes on from it exactly."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from training import Run, TrainConfig, train
from training.checkpoint import Checkpoint, digest

CONFIG = TrainConfig(members=3, epochs=3, seed=5, batch_size=128, augment="none", keep="best")
FILES = ["checkpoint.pt", "config.json", "curves.png", "lock", "metrics.jsonl"]
ROOT = Path(__file__).parents[2]

# Trains, and kills its own process where it hurts: `within` the second epoch, `before` its checkpoint is in
# place, or `after` that but before its line of metrics is written.
KILLED = """
import os, signal, sys
import training.checkpoint, training.run, training.step
from training import TrainConfig, train

where, config, out = sys.argv[1:]
save, line, step = training.checkpoint.torch.save, training.run._line, training.step.Step.__call__
steps = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def save_and_die(state, part):
    save(state, part)
    if where == "before" and state["epoch"] == 2:
        die()

def line_and_die(metrics):
    if where == "after" and metrics["epoch"] == 2:
        die()
    return line(metrics)

def step_and_die(self, *args, **options):
    global steps
    steps += 1
    if where == "within" and steps == 12:
        die()
    return step(self, *args, **options)

training.checkpoint.torch.save, training.run._line = save_and_die, line_and_die
training.step.Step.__call__ = step_and_die
train(TrainConfig.from_json(config), out)
"""

# Trains by the command, on a disk that has no room for the second checkpoint.
FULL = """
import resource, sys
import training.checkpoint
from ledgate.cli import main

save = training.checkpoint.torch.save

def save_where_there_is_room(state, part):
    if state["epoch"] == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    save(state, part)

training.checkpoint.torch.save = save_where_there_is_room
sys.exit(main(sys.argv[1:]))
"""


def python(script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(CONFIG, tmp_path_factory.mktemp("loop") / "unbroken", progress=False)


@pytest.fixture
def stopped(tmp_path: Path) -> Run:
    """A run with one epoch of three."""
    run = train(replace(CONFIG, epochs=1), tmp_path / "stopped", progress=False)
    replace(checkpoint(run), config=asdict(CONFIG)).save(run.path / "checkpoint.pt")
    (run.path / "config.json").write_text(CONFIG.to_json())
    return Run.open(run.path)


def checkpoint(run: Run) -> Checkpoint:
    found = run.checkpoint()
    assert found is not None
    return found


def timeless(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics without what two runs never share."""
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in metrics]


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def assert_same(run: Run, other: Run) -> None:
    """Weights, the optimiser's state, what is kept, and the metrics; every bit."""
    mine, theirs = checkpoint(run), checkpoint(other)
    for part in ("ensemble", "optimiser", "kept"):
        assert digest(getattr(mine, part)) == digest(getattr(theirs, part)), part
    assert mine.kept_epoch == theirs.kept_epoch
    assert timeless(mine.metrics) == timeless(theirs.metrics)
    assert lines(run) == mine.metrics


@pytest.mark.parametrize(("where", "epochs"), [("within", 1), ("before", 1), ("after", 2)])
def test_killed_training_goes_on_to_the_same_bits(unbroken: Run, tmp_path: Path, where: str, epochs: int) -> None:
    out = tmp_path / "killed"
    killed = python(KILLED, where, CONFIG.to_json(), out)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(Run.open(out)).epoch == epochs
    assert (len(list(out.glob(".*.part"))) == 1) == (where == "before")

    assert_same(train(CONFIG, out, progress=False), unbroken)
    assert sorted(file.name for file in out.iterdir()) == FILES


def test_a_full_disk_keeps_the_checkpoint_before(unbroken: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "--members", 3, "--epochs", 3, "--seed", 5, "--batch-size", 128, "--augment", "none",
             "--keep", "best", "--quiet", "--out", out]  # fmt: skip
    failed = python(FULL, *words)
    assert (failed.returncode, failed.stdout) == (1, "")
    (line,) = failed.stderr.splitlines()
    assert line.startswith(f"ledgate train: {out}/checkpoint.pt: expected to write epoch 2, found no room or no right")
    assert line.endswith("the checkpoint of epoch 1 is kept, and the same command goes on from there")
    assert checkpoint(Run.open(out)).epoch == 1
    assert not list(out.glob(".*.part"))

    assert_same(train(CONFIG, out, progress=False), unbroken)


def test_what_was_best_before_the_stop_stays_the_result(stopped: Run) -> None:
    """The first epoch is made the best there can be, and the run goes on from it."""
    before = checkpoint(stopped)
    before.metrics[0]["accuracy"] = 1.0
    before.save(stopped.path / "checkpoint.pt")

    ensemble, found = train(CONFIG, stopped.path, progress=False).trained()
    assert (found.epoch, found.kept_epoch) == (3, 1)
    assert digest(ensemble.state_dict()) == digest(found.kept) == digest(before.ensemble)
    assert digest(found.ensemble) != digest(found.kept)


def test_half_a_line_of_metrics_is_made_whole(unbroken: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in ("config.json", "checkpoint.pt"):
        (out / name).write_bytes((unbroken.path / name).read_bytes())
    (out / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    again = train(CONFIG, out, progress=False)
    assert lines(again) == checkpoint(unbroken).metrics


def test_curves_are_drawn(unbroken: Run) -> None:
    with Image.open(unbroken.path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    assert (unbroken.path / "curves.png").stat().st_mtime_ns >= (unbroken.path / "checkpoint.pt").stat().st_mtime_ns


def test_a_finished_run_has_its_lost_curves_drawn_and_nothing_trained(unbroken: Run, tmp_path: Path) -> None:
    before = (unbroken.path / "checkpoint.pt").stat().st_mtime_ns
    (unbroken.path / "curves.png").unlink()
    train(CONFIG, unbroken.path, progress=False)
    assert (unbroken.path / "curves.png").exists()
    assert (unbroken.path / "checkpoint.pt").stat().st_mtime_ns == before


def test_every_epoch_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="training"):
        run = train(replace(CONFIG, epochs=2), tmp_path / "run")
    last = lines(run)[-1]
    members = " ".join(f"{value:.3f}" for value in last["member_accuracy"])
    assert [record.message.split(":")[0] for record in caplog.records] == ["epoch 1/2", "epoch 2/2"]
    assert caplog.records[-1].message == (
        f"epoch 2/2: val {last['accuracy']:.3f}, median log diversity {last['median_log_diversity']:.3f}, "
        f"members {members}, loss {last['loss']:.3f}, {last['seconds']:.1f} s"
    )


# Stands in for TensorBoard: writes what it is given as lines of JSON, into a file called as TensorBoard calls its own.
class Writer:
    files = 0

    def __init__(self, folder: str, purge_step: int) -> None:
        Path(folder).mkdir(exist_ok=True)
        Writer.files += 1
        self._file = (Path(folder) / f"events.out.tfevents.{Writer.files}").open("w")

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._file.write(json.dumps([name, step, value]) + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[Any]]:
    """Installs the stand-in; returns what reads all of a run's points."""
    (tmp_path / "site" / "tensorboard").mkdir(parents=True)
    (tmp_path / "site" / "tensorboard" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "site")
    module = type(sys)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(torch.utils, "tensorboard", module, raising=False)

    def points(run: Path) -> list[Any]:
        return [json.loads(line) for file in (run / "tensorboard").iterdir() for line in file.read_text().splitlines()]

    return points


def test_tensorboard_has_each_epoch_once_whatever_was_there(
    stopped: Run, tensorboard: Callable[[Path], list[Any]]
) -> None:
    (stopped.path / "tensorboard").mkdir()
    (stopped.path / "tensorboard" / "events.out.tfevents.0").write_text('["loss", 1, 0.0]\n["loss", 2, 0.0]\n')
    run = train(CONFIG, stopped.path, progress=False)
    found = tensorboard(run.path)
    losses = {step: value for name, step, value in found if name == "loss"}
    assert losses == {measured["epoch"]: measured["loss"] for measured in lines(run)}
    assert len({(name, step) for name, step, _ in found}) == len(found)
    names = {name for name, _, _ in found}
    assert {"accuracy", "member_accuracy/2", "median_log_diversity", "entropy", "log_diversity", "seconds"} <= names
    assert not names & {"epoch", "machine"}


def test_without_tensorboard_there_is_no_folder_for_it(unbroken: Run) -> None:
    assert not (unbroken.path / "tensorboard").exists()
