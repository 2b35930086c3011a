"""The benchmarks run and say what they should; how long things take is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from benchmarks import attacks
from benchmarks.peers.attacks import Broken, Counterpart, Library, Settings
from training.attacks import BIM, FGSM, Untargeted

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
        "adp / cross-entropy (fastest), K=3",
        "fed / at hand (fastest), K=3",
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


def test_attacks_without_the_libraries(tmp_path: Path) -> None:
    """Ours alone; how it compares is seen where `scripts/peers` has been run."""
    found, said = quick("attacks", tmp_path / "attacks.json")
    assert found["judged_by"] == "CPU time"
    methods = [cell["settings"]["method"] for cell in found["cells"].values()]
    assert methods == ["fgsm", "bim", "pgd", "mim", "cw", "ead", "jsma-pairs", "square"]
    assert {cell["goal"] for cell in found["cells"].values()} == {1.0, 10.0}
    for name, cell in found["cells"].items():
        assert cell["ms_per_image"]["ours"] > 0
        assert cell["times_as_fast"].keys() == cell["ms_per_image"].keys() - {"ours", "ours, not folded"}
        assert cell["folding_gains"] > 0
        assert f"| {name} | " in said
    if found["not_installed"]:
        assert f"not installed: {', '.join(found['not_installed'])}; scripts/peers installs them" in said


def test_attacks_beside_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stands in for them does what ours does, twice."""

    class Twice(Library):
        name = "twice"

        def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
            if not isinstance(settings, BIM):
                return Broken("does nothing") if isinstance(settings, FGSM) else None

            def run(images: Tensor, labels: Tensor) -> Tensor:
                for _ in range(2):
                    found = settings.perturb(self.model.ensemble, images, Untargeted(labels), np.arange(len(images)))
                return found

            return Counterpart(run=run)

    monkeypatch.setattr(attacks, "LIBRARIES", {"twice": ("", "")})
    monkeypatch.setattr(attacks, "missing", list)
    monkeypatch.setattr(attacks, "opened", lambda name: Twice)
    found = attacks.measure(attacks.parse(["--quick", "--device", "cpu", "--attacks", "fgsm", "bim", "mim"]))
    cells = found["cells"]
    assert list(cells) == ["fgsm-0.1", "bim10-0.1", "mim10-0.1"]
    assert cells["bim10-0.1"]["times_as_fast"]["twice"] > 1.2
    assert cells["fgsm-0.1"]["left_out"] == {"twice": "does nothing"}
    assert cells["mim10-0.1"]["times_as_fast"] == {}
    assert "| bim10-0.1 | twice | " in attacks.table(found)
    cells["bim10-0.1"]["times_as_fast"]["twice"] = 0.9
    assert "| 0.90 | 1 | missed | " in attacks.table(found)


def test_attack_tables(tmp_path: Path) -> None:
    found, said = quick("attack_tables", tmp_path / "tables.json")
    rows = found["rows"]
    assert {name: row["images"] for name, row in rows.items() if "0.02" in name or name.startswith(("cw", "jsma"))} == {
        "fgsm-0.02": 10_000, "bim10-0.02": 10_000, "pgd10-0.02": 10_000, "mim10-0.02": 10_000,
        "jsma-0.05-by-0.1": 100, "jsma-0.1-by-0.1": 100, "cw-0.001": 1000, "cw-0.01": 1000, "cw-0.1": 1000,
    }  # fmt: skip
    assert rows["bim10-0.01"]["seconds"] == pytest.approx(rows["bim10-0.01"]["measured_s"] * 10_000 / 2)
    assert rows["ead-1"]["seconds"] == pytest.approx(rows["ead-1"]["measured_s"] * 1000 * 1000 / 2)
    assert found["table_minutes"] == pytest.approx(3 * sum(row["seconds"] for row in rows.values()) / 60)
    assert f"3 ensembles: {found['table_minutes']:.1f} minutes, extrapolated" in said
