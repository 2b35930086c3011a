"""`scripts/shipped`: from a run to what comes with ledgate, on digits in 8 bits."""

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import training
from detector.detector import Detector
from detector.errors import InputError
from detector.shipped import BUNDLE, IMAGES, shipped_bundle, shipped_images
from detector.targets import TargetFpr
from training import Run
from training.attacks import FGSM, PGD
from training.splits import split_rows

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/shipped"
ATTACKS = (FGSM(eps=0.1), PGD(eps=0.15, steps=3))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("shipped_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("shipped_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits, like photographs, in 8 bits."""
    real = training.load("digits")
    images = np.rint(real.images * 255).astype(np.uint8)
    monkeypatch.setattr(training, "load", lambda *_, **__: replace(real, images=images))


def test_it_makes_what_can_be_shipped(
    run: Run, script: ModuleType, eight_bits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(script.build, attacks=ATTACKS, target=TargetFpr(0.2), test_images=40, report_images=60)
    monkeypatch.setattr(script, "build", small)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(run.path), "--data-root", "/data", "--out", str(tmp_path)])
    assert script.main() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((BUNDLE, IMAGES))
    detector = Detector.open(shipped_bundle(tmp_path), device="cpu")
    calibration = detector.bundle.calibration
    assert calibration is not None
    assert [attack.name for attack in calibration.attacks] == [attack.name for attack in ATTACKS]
    assert all(attack.flagged.n == 60 for attack in calibration.attacks)
    parts = split_rows(training.load("digits"))
    assert len(calibration.clean_scores) + calibration.false_positives.n == len(parts["calibration"])
    for made in (detector.bundle.manifest.provenance, calibration.provenance):
        assert made["command"] == f"shipped {run.path.name} --data-root DIR"

    clean, attacked = shipped_images(tmp_path)
    assert set(attacked) == {attack.name for attack in ATTACKS}
    assert clean.source_index is not None
    assert len(clean) == 40
    assert set(clean.source_index) <= set(parts["test"])
    for attack in ATTACKS:
        images = attacked[attack.name]
        assert images.attack == attack.name
        assert images.images.dtype == np.uint8
        moved = np.abs(images.images.astype(int) - clean.images)
        assert moved.max() == int(255 * attack.eps)
        assert "rounded" in images.info["8 bits"]
        wrong = detector.classify(images.images).labels != images.labels
        assert images.clean_correct is not None
        assert images.success is not None
        assert np.array_equal(images.success, images.clean_correct & wrong)


def test_what_it_leaves_in_8_bits_is_the_attack(script: ModuleType) -> None:
    clean = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = clean.astype(np.float32) / 255
    for eps, reach in ((0.02, 5), (0.04, 10), (0.08, 20), (8 / 255, 8), (0.03, 7)):
        up, down = np.minimum(x + np.float32(eps), 1), np.maximum(x - np.float32(eps), 0)
        assert np.array_equal(script.to_8_bits(up, clean, eps), np.minimum(clean.astype(int) + reach, 255))
        assert np.array_equal(script.to_8_bits(down, clean, eps), np.maximum(clean.astype(int) - reach, 0))
        assert np.array_equal(script.to_8_bits(x + np.float32(0.4 / 255) * (x < 1), clean, eps), clean)


def test_it_replaces_nothing(run: Run, script: ModuleType, eight_bits: None, tmp_path: Path) -> None:
    (tmp_path / IMAGES).mkdir()
    (tmp_path / IMAGES / "test.npz").write_text("precious")
    with pytest.raises(InputError, match=f"{IMAGES}: expected a new folder"):
        script.build(run.path, Path("data"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [IMAGES]


def test_images_of_more_than_8_bits_are_refused(run: Run, script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="digits: expected images in 8 bits, found float32"):
        script.build(run.path, Path("data"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_none_is_one_line(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(SCRIPT), str(tmp_path / "nowhere"), "--data-root", "data", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert script.main() == 1
    expected = f"shipped: {tmp_path / 'nowhere'}: expected a training run's folder, found nothing\n"
    assert capsys.readouterr().err == expected
