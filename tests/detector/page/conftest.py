"""Reports with everything that a page can show, made of hostile names."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle, write_bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.imageset import ImageSet
from detector.targets import MeanFpr, PerClass, Target, TargetFpr
from tests.conftest import CLASSES, MEMBERS, linear_weights, make_images, make_model

# Markup, quotes, a template's braces, an entity, and a change of direction.
HOSTILE = "</style></title><script>alert('it')</script>\"'><img src=x onerror=alert(1)>{{7*7}}&amp;\u202e"
AWARE = "aware-pgd10-0.1"
IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class Made:
    """A report and what it is of."""

    folder: Path
    bundle: Bundle
    calibration: Calibration

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @property
    def html(self) -> str:
        return self.page.read_text("utf-8")


def attacks() -> dict[str, ImageSet]:
    """Two attacks of which some succeed; one is by someone who knows the detector."""
    generator = np.random.default_rng(5)
    return {
        name: ImageSet(
            images=np.clip(make_images(IMAGES) + generator.normal(size=(IMAGES, 1, 8, 8)) * 0.3, 0, 1).astype("f4"),
            source_index=np.arange(IMAGES),
            success=generator.random(IMAGES) < 0.6,
        )
        for name in (HOSTILE, AWARE)
    }


def make(folder: Path, target: Target, **options: Any) -> Made:
    """Calibrates a bundle whose name and classes are hostile, and reports."""
    labels = [f"{index} {HOSTILE}" for index in range(CLASSES)]
    home = folder / "<b onclick=alert(2)>"
    weights = [linear_weights(seed) for seed in range(MEMBERS)]  # centred, so that every class is predicted
    members = [make_model(weights=one - one.mean(axis=0)).SerializeToString() for one in weights]
    write_bundle(home, members=members, labels=labels, provenance={})
    classes = np.random.default_rng(6).integers(CLASSES, size=IMAGES)
    clean = ImageSet(images=make_images(IMAGES), labels=classes, source_index=np.arange(IMAGES))
    calibration = calibrate(home, clean=clean, target=target, device="cpu", report=folder / "report", **options)
    return Made(folder=folder / "report", bundle=Bundle.open(home), calibration=calibration)


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """With two attacks, mild changes, images of another kind, and a hostile command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ledgate", "calibrate", HOSTILE])
        return make(
            tmp_path_factory.mktemp("full"),
            TargetFpr(0.2),
            adversarial=attacks(),
            shifts=True,
            foreign={HOSTILE: ImageSet(images=make_images(50, seed=3))},
            notes={"files": [{"name": f"{HOSTILE}.npz", "sha256": "0" * 64}]},
        )


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Without attacks, with a threshold for each class."""
    return make(tmp_path_factory.mktemp("bare"), PerClass(MeanFpr(0.5)))
