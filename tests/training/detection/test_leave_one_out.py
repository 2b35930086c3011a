"""Models that are fitted on attacks, judged on one that they were not shown: `benchmarks.leave_one_out`."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.leave_one_out import ALONE, OURS, WITH, Known, areas, main
from tests.training.detection.conftest import LADDERS
from training import Run

RNG = np.random.default_rng(2)


def known(count: int, shift: dict[int, float]) -> Known:
    """Twelve values of some images, moved in some of them, and the half of each."""
    values = RNG.normal(size=(count, 12))
    for column, by in shift.items():
        values[:, column] += by
    return values, np.arange(count) % 2 == 0


def test_trees_find_what_is_like_the_attacks_that_they_were_shown() -> None:
    clean, attacked = known(400, {}), {name: known(100, {0: 6.0}) for name in ("fgsm", "pgd")}
    found = areas(clean, attacked, "pgd")
    assert min(found[ALONE], found[WITH]) > 0.98
    assert found[OURS] == pytest.approx(0.5, abs=0.1)


def test_the_attack_that_is_left_out_is_in_no_fit() -> None:
    clean = known(400, {})
    attacked = {"fgsm": known(100, {0: 6.0}), "pgd": known(100, {3: 6.0, 11: -6.0})}
    found = areas(clean, attacked, "pgd")
    assert found[OURS] > 0.98
    assert found[ALONE] < 0.7
    assert areas(clean, attacked | {"bim": known(100, {3: 6.0})}, "pgd")[ALONE] > 0.98


def test_no_image_is_judged_by_trees_that_were_fitted_on_it() -> None:
    attacked = {"fgsm": known(200, {}), "pgd": known(200, {})}
    attacked["pgd"] = attacked["fgsm"]  # whoever remembers one knows the other
    assert areas(known(400, {}), attacked, "pgd")[ALONE] == pytest.approx(0.5, abs=0.1)


def test_it_runs_on_what_was_measured(
    run: Run, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.detectors.ladders", lambda config: LADDERS)
    monkeypatch.setattr("training.detection.kept.attack", lambda *_, **__: pytest.fail("attacked anew"))
    out = tmp_path / "found.json"
    assert main([str(run.path), "--shown", "40", "--out", str(results), "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())["runs"]
    assert found["images"] == {"fgsm": 40, "pgd": 40, "cw": 12}
    said = capsys.readouterr().out
    for design in (OURS, ALONE, WITH):
        each = [found["auc"][method][design] for method in ("fgsm", "pgd", "cw")]
        assert f"{np.mean(each):.3f}" in next(line for line in said.splitlines() if line.startswith(f"| {design} "))


def test_a_folder_without_results_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run.path), "--out", str(tmp_path)]) == 1
    assert "detection.json" in capsys.readouterr().err
