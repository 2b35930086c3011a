"""`scripts/table1`: one command that trains what the table lacks and evaluates."""

import argparse
import importlib.machinery
import importlib.util
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from training import TrainConfig, train
from training.commands.train import configure, settings
from training.evaluation.command import command
from training.evaluation.setting import Setting
from training.paper import TABLE1, settings_of
from training.recipes import recipe

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "table1"
SETTINGS = [Setting(0.0, 0.0), Setting(1.5, 0.25)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("table1", str(SCRIPT))
    spec = importlib.util.spec_from_loader("table1", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def table1(*words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, SCRIPT, *words], capture_output=True, text=True, check=False, cwd=ROOT
    )


def trainings(script: ModuleType, line: str) -> Iterator[TrainConfig]:
    """The settings that a printed command trains with, as `ledgate train` understands them."""
    words, extra = script.split(shlex.split(line)[2:])
    for step in script.commands(script.parser().parse_args(words), extra):
        if step[0] == "train":
            parser = argparse.ArgumentParser()
            configure(parser)
            yield settings(parser.parse_args(step[1:]))


@pytest.mark.parametrize(
    "config",
    [
        *(settings_of(dataset) for dataset in TABLE1),
        TrainConfig(),
        TrainConfig(dataset="cifar10", arch="resnet20", **{**recipe("fast", "cifar10"), "epochs": 30}),
        replace(settings_of("cifar10"), precision="bfloat16", compile=True, members=5, patience=3),
        replace(settings_of("mnist"), milestones=(0.25, 0.5), learning_rate=(1e-3, 2e-3, 3e-3)),
        replace(settings_of("mnist"), schedule="cosine", milestones=()),
        TrainConfig(dataset="cifar10", arch="resnet18", **{**recipe("fast", "cifar10"), "growing": True}),
        settings_of("cifar10", adversarial="pgd"),
        replace(settings_of("cifar10", adversarial="fgsm"), batch_size=64),
        settings_of("cifar10", members=5),
    ],
    ids=[*TABLE1, "digits", "fast", "quick", "rates", "schedule", "growing", "adversarial", "small-batch", "five"],
)
def test_the_command_for_what_is_missing_trains_it_in_the_same_way(script: ModuleType, config: TrainConfig) -> None:
    expected = [
        replace(config, alpha=setting.alpha, beta=setting.beta, seed=seed) for setting in SETTINGS for seed in (3, 4)
    ]
    assert list(trainings(script, command(config, SETTINGS, [3, 4]))) == expected


def test_dry_run_prints_every_command_and_runs_none(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    done = table1("--data-root", "d", "--seeds", "0", "1", "--runs", str(runs), "--out", str(out), "--dry-run",
                  "--", "--download")  # fmt: skip
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == (
        "ledgate train --dataset mnist --data-root d --arch resnet20 --members 3 --alpha 0 --beta 0 --recipe paper "
        f"--seed 0 --download --out {runs}/mnist-resnet20-paper-baseline-seed0"
    )
    folders = [line.rpartition(" ")[2] for line in lines[:-1]]
    assert len(set(folders)) == 12
    assert lines[-1] == f"ledgate evaluate {' '.join(folders)} --data-root d --out {out}"
    assert list(tmp_path.iterdir()) == []


def steps(script: ModuleType, *words: str) -> list[str]:
    """The commands that are run."""
    return [shlex.join(step) for step in script.commands(script.parser().parse_args(words), [])]


def test_all_tables_take_what_the_paper_trained_each_once(script: ModuleType) -> None:
    *trainings, evaluation = steps(script, "--tables", "1", "2", "3", "4", "5")
    folders = [line.rpartition(" ")[2] for line in trainings]
    assert len(set(folders)) == len(folders) == 3 + 3 + 2 + 2 * 2 + 2
    assert sum("--members 5" in line for line in trainings) == 2
    assert sum("--adversarial pgd" in line for line in trainings) == 2
    assert evaluation == f"evaluate {' '.join(folders)} --parts errors robustness transfer --out results"


@pytest.mark.parametrize(
    ("words", "runs", "parts"),
    [
        (["--tables", "1"], 8, ""),
        (["--tables", "5"], 2, " --parts errors robustness transfer"),
        (["--tables", "3", "--parts", "robustness"], 2, " --parts robustness"),
        (["--datasets", "cifar10", "--parts", "errors", "transfer"], 3, " --parts errors transfer"),
    ],
    ids=["first", "last", "said", "without-tables"],
)
def test_parts_are_what_the_tables_have_unless_said(
    script: ModuleType, words: list[str], runs: int, parts: str
) -> None:
    *trainings, evaluation = steps(script, *words)
    assert len(trainings) == runs
    assert evaluation.endswith(f"{parts} --out results")
    assert ("--parts" in evaluation) == bool(parts)


def test_what_is_trained_is_not_trained_again(tmp_path: Path) -> None:
    before = TrainConfig(epochs=1)
    train(before, tmp_path / "runs" / "digits-cnn-digits-1-adp-2-0.5-seed0", progress=False)
    done = table1("--datasets", "digits", "--arch", "cnn", "--recipe", "digits", "--epochs", "1",
                  "--settings", "adp-2-0.5", "--seeds", "0", "1",
                  "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing left to do") == 1
    results = json.loads((tmp_path / "out" / "table1.json").read_text("utf-8"))["results"]
    assert [result["config"]["seed"] for result in results] == [0, 1]
    assert "ADP<sub>2,0.5</sub>, ours, 2 seeds" in (tmp_path / "out" / "table1.md").read_text("utf-8")


def test_a_command_that_fails_is_the_last(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "LEDGATE", [sys.executable, "-c", "import sys; print('ran'); sys.exit(7)"])
    monkeypatch.setattr(sys, "argv", ["table1", "--seeds", "0", "1"])
    assert script.main() == 7
    out, err = capfd.readouterr()
    assert out == "ran\n"
    assert err.endswith("table1: stopped, since that failed with status 7\n")


def test_an_unknown_setting_is_a_usage_error() -> None:
    done = table1("--settings", "adp-2")
    assert done.returncode == 2
    assert "setting: expected baseline or adp-ALPHA-BETA such as adp-2-0.5, found 'adp-2'" in done.stderr


def test_without_ledgate_it_says_so() -> None:
    done = table1("--dry-run", flags=("-S",))  # no installed packages
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"table1: expected ledgate installed for {sys.executable}, found none; ")
