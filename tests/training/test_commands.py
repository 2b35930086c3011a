"""The commands data, train, export and attack, as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.imageset import ImageSet
from ledgate.cli import main
from training import Run, load
from training.splits import split_rows

TRAIN = ["train", "--dataset", "digits", "--arch", "cnn", "--members", "2", "--alpha", "2", "--beta", "0.5"]


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """A command's JSON; there is nothing else on standard output."""
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which a command fails."""
    try:
        status = main([str(word) for word in words])
    except SystemExit as exit_:
        status = int(str(exit_.code))
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return f"{status} {err.strip()}"


def test_data_writes_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clean.npz"
    said = answer(capsys, "data", "--dataset", "digits", "--split", "calibration", "--n", 40, "--out", out)
    assert said == {
        "path": str(out),
        "images": 40,
        "dataset": "digits",
        "split": "calibration",
        "sample": {"n": 40, "seed": 0},
    }
    written = ImageSet.load(out)
    assert written.source_index is not None
    assert set(written.source_index) < set(split_rows(load("digits"))["calibration"])


def test_train_trains_goes_on_and_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = [*TRAIN, "--epochs", 2, "--seed", 1, "--out", run]
    first = answer(capsys, *words)
    assert (first["epoch"], first["trained"]) == (2, 2)
    assert main([str(word) for word in words]) == 0
    assert "nothing left to do, all 2 epochs were trained before" in capsys.readouterr().out
    assert refusal(capsys, *words, "--alpha", 1).startswith(
        f"1 ledgate train: {run}: expected the settings this run was started with (alpha: 2.0, not 1.0)"
    )


def test_export_makes_a_bundle(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(capsys, "export", run.path, "--out", tmp_path / "bundle")
    assert said["digest"] == Bundle.open(tmp_path / "bundle").digest


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--attack", "fgsm", "--eps", "0.1"], "fgsm-0.1"),
        (["--attack", "bim", "--eps", "0.1", "--steps", "3"], "bim3-0.1"),
        (["--attack", "pgd", "--eps", "0.2", "--step-size", "0.05"], "pgd10-0.2-by-0.05"),
    ],
    ids=["fgsm", "bim", "pgd"],
)
def test_attack_writes_what_it_did(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], name: str
) -> None:
    out = tmp_path / "adversarial.npz"
    said = answer(capsys, "attack", run.path, "--split", "validation", "--n", 30, "--seed", 2, *words, "--out", out)
    written = ImageSet.load(out)
    assert written.info["attack"]["name"] == said["attack"]["name"] == name
    assert written.info["split"] == "validation"
    assert written.images.dtype == np.float32
    assert len(written) == said["images"] == 30
    assert np.asarray(written.success).sum() == said["success"]
    assert np.abs(written.images - np.asarray(written.clean)).max() <= np.float32(written.info["attack"]["eps"])


def test_attack_starts_from_a_file(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, direct, by_file = (tmp_path / name for name in ("clean.npz", "direct.npz", "by_file.npz"))
    answer(capsys, "data", "--dataset", "digits", "--split", "validation", "--out", clean)
    words = ["--attack", "pgd", "--eps", "0.1", "--out"]
    answer(capsys, "attack", run.path, "--split", "validation", *words, direct)
    answer(capsys, "attack", run.path, "--clean", clean, *words, by_file)
    assert np.array_equal(ImageSet.load(direct).images, ImageSet.load(by_file).images)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--members", "1", "--out", "x"], "1 ledgate train: members: expected a whole number of at least 2"),
        (["train", "--arch", "mlp", "--out", "x"], "2 ledgate train: argument --arch: invalid choice: 'mlp'"),
        (["data", "--dataset", "digits", "--split", "test", "--n", "0", "--out", "x"], "1 ledgate data: n: expected 1"),
        (["export", "nowhere", "--out", "x"], "1 ledgate export: nowhere: expected a training run's folder, found no"),
        (["attack", "nowhere", "--attack", "fgsm", "--eps", "1", "--out", "x"], "2 ledgate attack: one of the argumen"),
        (
            ["attack", "RUN", "--split", "test", "--attack", "fgsm", "--eps", "0.1", "--steps", "2", "--out", "x"],
            "1 ledgate attack: --steps: expected for bim and pgd only, found with fgsm",
        ),
        (
            ["attack", "RUN", "--clean", "c", "--dataset", "digits", "--attack", "fgsm", "--eps", "0.1", "--out", "x"],
            "1 ledgate attack: --dataset: expected with --split only",
        ),
        (
            ["attack", "RUN", "--split", "test", "--attack", "pgd", "--eps", "7", "--out", "x"],
            "1 ledgate attack: eps: expected a number above 0 and at most 1",
        ),
    ],
    ids=["members", "arch", "n", "export", "no-source", "fgsm-steps", "two-sources", "eps"],
)
def test_refusals_are_one_line(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(run.path) if word == "RUN" else word for word in words]
    assert refusal(capsys, *words).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["data", "train", "export", "attack"])
def test_help_shows_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "(default: " in capsys.readouterr().out


def test_the_command_runs_as_a_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ledgate", *TRAIN, "--epochs", "1", "--out", tmp_path / "run", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["epoch"] == 1
