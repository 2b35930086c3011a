"""`ledgate calibrate --changed-fpr`: the threshold that spares mildly changed images, from the command line."""

from pathlib import Path

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.imageset import ImageSet
from ledgate.cli import main
from tests.conftest import make_images


@pytest.fixture
def words(bundle: Bundle, tmp_path: Path) -> list[str]:
    images = (make_images(600, seed=3) ** 4).astype(np.float32)
    ImageSet(images=images, source_index=np.arange(600)).save(tmp_path / "clean.npz")
    return ["calibrate", str(bundle.path), "--clean", str(tmp_path / "clean.npz"), "--device", "cpu"]


def test_it_lowers_the_threshold_and_says_what_it_promises(
    words: list[str], bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--target-fpr", "0.2", "--score", "energy"]
    assert main(words) == 0
    plain = Calibration.load(bundle.path / "calibration.json")
    capsys.readouterr()
    assert main([*words, "--changed-fpr", "0.1"]) == 0
    spared = Calibration.load(bundle.path / "calibration.json")
    assert spared.threshold is not None
    assert plain.threshold is not None
    assert spared.threshold < plain.threshold
    assert (plain.changed_fpr, spared.changed_fpr) == (None, 0.1)
    assert "likewise at most 10 % after each of these changes: noise 0.05, blur 1," in capsys.readouterr().out


@pytest.mark.parametrize("target", ["--youden", "--per-class", "--assume-clean"])
def test_what_does_not_go_with_it(words: list[str], target: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [target] if target == "--youden" else [target, "--target-fpr", "0.2"]
    status, expected = 2, "changed FPR: expected with TargetFpr"
    if target == "--assume-clean":  # in a file of scores alone
        status, expected = 1, "--changed-fpr: expected images"
    assert main([*words, *chosen, "--changed-fpr", "0.1"]) == status
    assert expected in capsys.readouterr().err
