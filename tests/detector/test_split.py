"""What a calibration keeps of its images: enough for every score, and of the predictions a sample."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detector import split
from detector.bundle import Bundle, write_bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.outputs import Outputs
from detector.scores import SCORES, score_named
from detector.targets import TargetFpr
from tests.conftest import CLASSES, make_images, make_members


@pytest.mark.parametrize("name", SCORES)
def test_what_is_kept_scores_and_fits_as_the_logits_do_to_the_bit(bundle: Bundle, name: str) -> None:
    logits = Detector(bundle, device="cpu").logits(make_images(700))
    parts = [Outputs(logits[start : start + 64]) for start in range(0, 700, 64)]
    kept = np.concatenate([score_named(name).keep(outputs) for outputs in parts])
    classes = np.concatenate([outputs.labels for outputs in parts])
    fitted = score_named(name).fit_kept(kept, classes, CLASSES)
    expected = score_named(name).fit(logits)
    assert fitted.fitted == expected.fitted
    np.testing.assert_array_equal(fitted.of_kept(kept, classes), expected.of(logits))


def test_no_logits_are_kept_that_nothing_is_fitted_on() -> None:
    wide = Outputs(np.random.default_rng(0).normal(size=(4, 3, 200)))
    assert sum(score_named(name).keep(wide).nbytes for name in SCORES) < 4 * 200


def test_a_temperature_takes_a_sample(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many images; of few it takes all, and then nothing is drawn."""
    images = make_images(2000)
    classes = Detector(bundle, device="cpu").classify(images).labels
    labels = np.where(np.random.default_rng(0).random(2000) < 0.3, (classes + 1) % CLASSES, classes)
    clean = ImageSet(images=images, labels=labels, source_index=np.arange(2000))
    every = calibrate(bundle.path, clean=clean, target=TargetFpr(0.2), device="cpu")
    monkeypatch.setattr(split, "SAMPLE", 800 * CLASSES)
    found = calibrate(bundle.path, clean=clean, target=TargetFpr(0.2), device="cpu")
    assert every.confidence is not None
    assert found.confidence is not None
    assert (every.confidence.fitted, every.confidence.reported) == (1000, 1000)
    assert found.confidence.fitted + found.confidence.reported == 800
    assert found.confidence.temperature == pytest.approx(every.confidence.temperature, rel=0.2)
    assert (found.threshold, found.accuracy) == (every.threshold, every.accuracy)


MEASURED = """
import re, sys
from ledgate.cli import main
status = main(sys.argv[1:])
sys.stderr.write(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the memory of a process")
def test_memory_does_not_grow_with_the_classes(tmp_path: Path) -> None:
    """The logits of 3 members and 1,000 classes would take 12 KB an image, their mean prediction 8."""
    names = [f"class {number}" for number in range(1000)]
    write_bundle(tmp_path / "wide", members=make_members(classes=1000), labels=names, provenance={})
    peaks = []
    for count in (8_300, 20_300):  # the sample is of 4,194 images
        file = tmp_path / f"{count}.npz"
        labels = np.arange(count) % 1000
        images = np.random.default_rng(0).integers(0, 256, size=(count, 1, 8, 8), dtype=np.uint8)
        np.savez(file, images=images, labels=labels, source_index=np.arange(count))
        words = ("calibrate", tmp_path / "wide", "--clean", file, "--target-fpr", 0.05, "--device", "cpu", "--json")
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, words)],
            capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["confidence"]["fitted"] > 1000
        peaks.append(1024 * int(re.findall(r"\d+", done.stderr)[-1]))
    # Of 240 MB. What allocators keep moves a peak by 40.
    assert peaks[1] - peaks[0] < 12_000 * 8_000, peaks
