"""The demo of what comes with ledgate, as a newcomer runs it, on a stand-in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.shipped import BUNDLE, IMAGES
from detector.targets import Explicit
from ledgate.demonstration import make_room
from tests.shipping import ATTACKS, COUNT, make_shipped, noise

# torch is there, and whoever loads it says so.
RUN = """
import sys
from ledgate.cli import main
status = main(sys.argv[1:])
sys.exit("torch was loaded" if "torch" in sys.modules else status)
"""


def ledgate(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder, with what is shipped in `shipped`."""
    home = tmp_path_factory.mktemp("newcomer")
    make_shipped(home / "shipped")
    return home


@pytest.fixture(scope="module")
def demo(home: Path) -> subprocess.CompletedProcess[str]:
    return ledgate("demo", "--shipped", "shipped", cwd=home)


@pytest.fixture(scope="module")
def summary(demo: subprocess.CompletedProcess[str]) -> Any:
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""
    return json.loads(demo.stdout.splitlines()[-1])


def test_its_last_line_is_the_summary(summary: Any, home: Path) -> None:
    bundle = Bundle.open(home / "shipped" / BUNDLE)
    assert bundle.calibration is not None
    seconds = summary.pop("seconds")
    assert 0 < seconds < 120
    assert {name: summary[name] for name in ("target_fpr", "seed", "dataset", "images", "bundle_digest")} == {
        "target_fpr": 0.2,
        "seed": 7,
        "dataset": "noise",
        "images": COUNT,
        "bundle_digest": bundle.digest,
    }
    assert summary["calibrated_false_positive_rate"] == bundle.calibration.false_positives.rate
    assert list(summary["auc"]) == list(summary["flagged"]) == list(ATTACKS)


def test_its_figures_are_the_embedded_detectors(summary: Any, home: Path) -> None:
    detector = Detector.open(home / "shipped" / BUNDLE, device="cpu")
    for name, share in {"test": summary["false_positive_rate"], **summary["flagged"]}.items():
        images = ImageSet.load(home / "shipped" / IMAGES / f"{name}.npz")
        found = detector.classify(images.images).adversarial
        assert found is not None
        assert share == found.mean()
    test = ImageSet.load(home / "shipped" / IMAGES / "test.npz")
    clean = detector.classify(test.images)
    assert clean.score is not None
    assert summary["accuracy"] == (clean.labels == test.labels).mean()
    for name, auc in summary["auc"].items():
        attacked = detector.classify(ImageSet.load(home / "shipped" / IMAGES / f"{name}.npz").images).score
        assert attacked is not None
        pairs = attacked[:, None] - clean.score[None, :]
        assert auc == pytest.approx((pairs < 0).mean() + (pairs == 0).mean() / 2)


def test_the_table_has_a_row_for_each(demo: subprocess.CompletedProcess[str], summary: Any) -> None:
    lines = demo.stdout.splitlines()
    (head,) = (index for index, line in enumerate(lines) if line.startswith("images "))
    rows = lines[head + 1 : head + 4]
    assert [row.split()[0] for row in rows] == ["clean", *ATTACKS]
    at = lines[head].index("flagged")
    assert [row[at:].split()[0] for row in rows] == [
        f"{100 * share:.1f}" for share in (summary["false_positive_rate"], *summary["flagged"].values())
    ]


def test_it_says_what_was_promised_and_what_came_of_it(demo: subprocess.CompletedProcess[str], home: Path) -> None:
    calibration = Bundle.open(home / "shipped" / BUNDLE).calibration
    assert calibration is not None
    text = " ".join(demo.stdout.split())
    assert "promises to flag at most 20 % of honest images" in text
    assert f"on 200 calibration images, {calibration.false_positives} of 200 others were flagged" in text
    assert "What this does not show" in text


def test_its_samples_are_the_images_that_were_measured(summary: Any, home: Path) -> None:
    test = ImageSet.load(home / "shipped" / IMAGES / "test.npz")
    samples = sorted((home / "demo" / "images").iterdir())
    assert len(samples) == 8 * (1 + len(ATTACKS))
    for index in range(8):
        sample = np.asarray(Image.open(home / "demo" / "images" / f"clean-{index}.png"))
        assert np.array_equal(sample.transpose(2, 0, 1), test.images[index])
    with Image.open(home / "demo" / "samples.png") as picture:
        assert picture.mode == "RGB"


def test_what_it_says_to_try_works(demo: subprocess.CompletedProcess[str], summary: Any, home: Path) -> None:
    lines = [line.split() for line in demo.stdout.splitlines() if line.startswith("  ledgate ")]
    assert [words[1] for words in lines] == ["inspect", "classify", "serve", "classify"]
    for words in lines[:2]:
        images = [str(path) for path in sorted((home / "demo" / "images").iterdir())]
        expanded = [part for word in words[1:] for part in (images if "*" in word else [word])]
        done = ledgate(*expanded, cwd=home)
        assert done.returncode == 0, (words, done.stderr)


def test_an_earlier_demos_folder_is_replaced_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        make_room(out)
        assert [file.name for file in out.iterdir()] == ["demo.json"]
        (out / "test.npz").write_text("left by a demo")
    (out / "demo.json").unlink()
    with pytest.raises(InputError, match="out: expected no folder, or an earlier demo's, found another"):
        make_room(out)
    assert [file.name for file in out.iterdir()] == ["test.npz"]


def test_without_what_is_shipped_nothing_is_touched(tmp_path: Path) -> None:
    done = ledgate("demo", "--shipped", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"ledgate demo: nowhere/{BUNDLE}: expected the bundle that comes with ledgate, found nothing"
    assert done.stderr.startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_without_a_promise_is_refused(tmp_path: Path) -> None:
    home = make_shipped(tmp_path / "shipped")
    calibrate(home / BUNDLE, clean=ImageSet(images=noise(20, 3)), target=Explicit(-1.0), device="cpu")
    done = ledgate("demo", "--shipped", "shipped", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected a calibration by --target-fpr, found Explicit" in done.stderr
