"""The benchmarks run and say what they should; how long things take is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def quick(name: str, out: Path) -> tuple[Any, str]:
    """What a benchmark wrote as JSON, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--device", "cpu", "--out", out],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(out.read_text()), done.stdout


def test_train_step(tmp_path: Path) -> None:
    found, said = quick("train_step", tmp_path / "step.json")
    assert found["judged_by"] == "CPU time"
    assert found["settings"]["repeats"] == 2
    assert set(found["ratios"]) >= {
        "adp / cross-entropy, K=3",
        "adp / cross-entropy, K=5",
        "ours (eager) / plain, K=3",
        "feeding / fastest step, K=3",
        "sequential / simultaneous, K=3",
    }
    assert all(value > 0 for value in found["ratios"].values())
    assert {len(times["wall"]) for times in found["times_s"].values()} == {2}
    assert found["provenance"]["versions"]["torch"]
    for name, value in found["ratios"].items():
        assert f"| {name} | {value:.3f} |" in said


def test_train_run(tmp_path: Path) -> None:
    found, said = quick("train_run", tmp_path / "run.json")
    assert len(found["epochs_s"]) == 2
    seconds = found["first_epoch_s"] + 179 * sum(found["epochs_s"]) / 2
    assert found["run_minutes"] == pytest.approx(seconds / 60)
    assert f"a run of 180 epochs: {found['run_minutes']:.1f} minutes" in said
