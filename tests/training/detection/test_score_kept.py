"""Designs of scores on kept images: `benchmarks.score_kept`."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.score_kept import NAMES, main
from training import Run
from training.detection.content import Content


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_the_library_offers_has_the_areas_of_the_page(
    run: Run, results: Path, content: Content, split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On test images; on validation images others."""
    out = tmp_path / "found.json"
    assert main([str(run.path), "--split", split, "--out", str(results), "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())["runs"]
    measured = next(each for each in content.runs if each.name == run.path.name)
    ours = next(each for each in measured.figures if each.detector == "mahalanobis")
    areas = [found["designs"]["mahalanobis"]["all"][method] for method in ("fgsm", "pgd", "cw")]
    page = [ours.of(method).auc.value for method in ("fgsm", "pgd", "cw")]
    assert (areas == pytest.approx(page)) == (split == "test")
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("| mahalanobis  "))
    assert f"| {np.mean(areas):.3f} " in row
    assert list(found["designs"]) == list(NAMES)


def test_a_folder_without_results_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run.path), "--out", str(tmp_path)]) == 1
    assert "detection.json" in capsys.readouterr().err
