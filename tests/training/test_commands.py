"""The commands data, train, export and attack, as a user meets them."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.errors import InputError
from detector.imageset import ImageSet
from ledgate.cli import main
from training import Run, TrainConfig, load
from training.commands import train
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


def parsed(*words: str) -> TrainConfig:
    """The settings that a command line comes to."""
    parser = argparse.ArgumentParser()
    train.configure(parser)
    return train.settings(parser.parse_args(["--dataset", "cifar10", "--out", "x", *words]))


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
        (["train", "--members", "1", "--out", "x"], "2 ledgate train: members: expected a whole number of at least 2"),
        (["train", "--arch", "mlp", "--out", "x"], "2 ledgate train: argument --arch: expected one of cnn, resnet110,"),
        (["train", "--recipe", "quick", "--out", "x"], "2 ledgate train: argument --recipe: invalid choice: 'quick'"),
        (
            ["train", "--learning-rate", "abc", "--out", "x"],
            "2 ledgate train: argument --learning-rate: expected numbers with commas between, found 'abc'",
        ),
        (
            ["train", "--learning-rate", "1e-3,2e-3", "--out", "x"],
            "2 ledgate train: learning_rate: expected one, or one for each of 3 members, found (0.001, 0.002)",
        ),
        (
            ["train", "--milestones", "0.5;0.7", "--out", "x"],
            "2 ledgate train: argument --milestones: expected numbers with commas between, found '0.5;0.7'",
        ),
        (
            ["train", "--schedule", "steps", "--milestones", "0.7,0.5", "--out", "x"],
            "2 ledgate train: milestones: expected rising shares of the run between 0 and 1, found (0.7, 0.5)",
        ),
        (
            ["train", "--dataset", "cifar10", "--data-root", "nowhere", "--out", "x"],
            "1 ledgate train: data-root: expected cifar10 as torchvision lays it out in nowhere, found none",
        ),
        (["data", "--dataset", "digits", "--split", "test", "--n", "0", "--out", "x"], "1 ledgate data: n: expected 1"),
        (["export", "nowhere", "--out", "x"], "1 ledgate export: nowhere: expected a training run's folder, found no"),
        (["attack", "nowhere", "--attack", "fgsm", "--eps", "1", "--out", "x"], "2 ledgate attack: one of the argumen"),
        (
            ["attack", "RUN", "--split", "test", "--attack", "fgsm", "--eps", "0.1", "--steps", "2", "--out", "x"],
            "2 ledgate attack: --steps: expected for bim, cw, ead, mim and pgd only, found with fgsm",
        ),
        (
            ["attack", "RUN", "--clean", "c", "--dataset", "digits", "--attack", "fgsm", "--eps", "0.1", "--out", "x"],
            "2 ledgate attack: --dataset: expected with --split only",
        ),
        (
            ["attack", "RUN", "--split", "test", "--attack", "pgd", "--eps", "7", "--out", "x"],
            "2 ledgate attack: eps: expected a number above 0 and at most 1",
        ),
    ],
    ids=[
        "members",
        "arch",
        "recipe",
        "no-number",
        "rates",
        "no-shares",
        "falling",
        "no-data",
        "n",
        "export",
        "no-source",
        "fgsm-steps",
        "two-sources",
        "eps",
    ],
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


@pytest.mark.parametrize("command", ["data", "train", "attack"])
def test_help_shows_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert "(default: " in capsys.readouterr().out


def test_help_says_what_each_recipe_has(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "networks in the ensemble, 2 to one less than there are classes (default: 3)" in said
    assert "how often each image is seen (default: digits 40, fast 18, paper 180)" in said
    assert "(default: digits adam, fast muon, paper adam)" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--optimiser", "muon"], {"optimiser": "muon", "weight_decay": 0.0, "learning_rate": 1e-3}),
        (["--optimiser", "sgd"], {"optimiser": "sgd", "weight_decay": 1e-4}),
        (["--growing"], {"growing": True, "normalise": "channel"}),
        (["--schedule", "cosine"], {"schedule": "cosine", "milestones": ()}),
        (["--adversarial", "pgd"], {"adversarial": "pgd", "batch_size": 128}),
        (["--adversarial", "pgd", "--batch-size", "32"], {"adversarial": "pgd", "batch_size": 32}),
    ],
    ids=" ".join,
)
def test_what_the_papers_recipe_has_gives_way_to_an_option_it_does_not_go_with(
    words: list[str], expected: dict[str, Any]
) -> None:
    config = parsed("--recipe", "paper", *words)
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_the_command_line_itself_says_gives_way_to_nothing() -> None:
    with pytest.raises(InputError, match="weight_decay: expected 0 with muon, whose kernels keep their norm"):
        parsed("--recipe", "paper", "--optimiser", "muon", "--weight-decay", "1e-4")


def test_the_next_command_names_the_data_only_where_this_one_did(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The digits lie nowhere, so that only what is printed is looked at; a folder's is run in test_datasets_folder."""
    out = shutil.copytree(run.path, tmp_path / "a run")
    words = ["train", "--members", "3", "--epochs", "4", "--seed", "3", "--out", str(out)]
    for root, said in (([], ""), (["--data-root", "my data"], " --data-root 'my data'")):
        assert main([*words, *root]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"next: ledgate export '{out}'{said} --out BUNDLE"


def test_the_command_runs_as_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TRAIN, "--epochs", "1", "--batch-size", "256", "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "ledgate", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["epoch"] == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ledgate train: warning: members: 2 does not divide 10 - 1 classes")
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["trained"], err) == (0, "")
    monkeypatch.setenv("RANK", "1")  # the second of torchrun's processes leaves the word to the first
    assert main(words) == 0
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_each_epoch_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--epochs", "2", "--batch-size", "256", "--out"]
    assert main([*words, str(tmp_path / "told")]) == 0
    out, err = capsys.readouterr()
    assert [line.split(": val ")[0] for line in err.splitlines()] == [
        "ledgate train: epoch 1/2",
        "ledgate train: epoch 2/2",
    ]
    assert "trained epochs 1 to 2" in out
    assert main([*words, str(tmp_path / "quiet"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
