"""What comes with ledgate: found, refused where it is not whole, and the real one fit to be shipped."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import BundleError
from detector.shipped import BUNDLE, HOME, IMAGES, shipped_bundle, shipped_images
from detector.targets import TargetFpr
from tests.shipping import ATTACKS, COUNT, make_shipped


def test_it_is_found(tmp_path: Path) -> None:
    home = make_shipped(tmp_path)
    assert Detector.open(shipped_bundle(home), device="cpu").bundle.name == BUNDLE
    clean, attacked = shipped_images(home)
    assert (len(clean), tuple(attacked)) == (COUNT, ATTACKS)


def test_where_it_is_not_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{BUNDLE}: expected the bundle that comes with ledgate, found nothing"):
        shipped_bundle(tmp_path)
    with pytest.raises(BundleError, match=f"{IMAGES}: expected the images that come with ledgate, found none"):
        shipped_images(tmp_path)


def test_images_of_another_set_are_refused(tmp_path: Path) -> None:
    home = make_shipped(tmp_path / "one")
    file = home / IMAGES / f"{ATTACKS[0]}.npz"
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "source_index": arrays["source_index"][::-1]})
    with pytest.raises(BundleError, match=r"fgsm-0\.04\.npz: expected the images of test\.npz after an attack"):
        shipped_images(home)


def test_what_is_shipped_is_fit_to_be_shipped() -> None:
    """The real one: whole, calibrated, small, and its images are those of its promise."""
    detector = Detector.open(shipped_bundle(), device="cpu")  # every digest, and the probes reproduced
    bundle, calibration = detector.bundle, detector.bundle.calibration
    assert (bundle.name, bundle.member_count, bundle.class_count) == ("cifar10", 3, 10)
    assert bundle.input.shape == (3, 32, 32)
    assert {"automobile", "cat"} < set(bundle.labels)
    assert calibration is not None
    assert calibration.target == TargetFpr(0.05)
    assert calibration.members_digest == bundle.members_digest
    clean, attacked = shipped_images()
    assert [attack.name for attack in calibration.attacks] == list(attacked)
    assert len(attacked) >= 2
    assert clean.labels is not None
    for images in (clean, *attacked.values()):
        assert images.images.shape == (len(clean), 3, 32, 32)
        assert images.images.dtype == np.uint8
        assert images.labels is not None
        assert np.array_equal(images.labels, clean.labels)
    for name, images in attacked.items():
        assert images.attack == name
        moved = np.abs(images.images.astype(int) - clean.images).max()
        assert 0 < moved <= 255 * images.info["attack"]["eps"]
    assert clean.info["split"] == "test"
    # The images that the figures of success speak of are these, and the members these.
    right = detector.classify(clean.images).labels == clean.labels
    for images in attacked.values():
        wrong = detector.classify(images.images).labels != clean.labels
        assert images.success is not None
        assert np.mean(images.success != (right & wrong)) <= 0.01  # a tie in other arithmetic
    assert sum(file.stat().st_size for file in HOME.rglob("*") if file.is_file()) < 6 << 20


def test_what_is_shipped_names_no_folder_of_the_machine_that_made_it() -> None:
    for name in ("bundle.json", "calibration.json"):
        made = json.loads((shipped_bundle() / name).read_text("utf-8"))["provenance"]
        assert not [word for word in json.dumps(made).replace('"', " ").split() if word.startswith(("/", "~"))]
