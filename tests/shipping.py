"""A stand-in for what comes with ledgate: linear members on noise, and noise on noise for attacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.bundle import write_bundle
from detector.calibrate import calibrate
from detector.imageset import ImageSet
from detector.shipped import BUNDLE, IMAGES
from detector.targets import TargetFpr
from tests.conftest import CLASSES, make_members

COLOUR = (3, 8, 8)
COUNT = 30
ATTACKS = ("fgsm-0.04", "pgd10-0.02")


def noise(count: int, seed: int) -> np.ndarray:
    """Images in 8 bits: (N, 3, 8, 8)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *COLOUR)).astype(np.uint8)


def make_shipped(home: Path) -> Path:
    """A folder like `detector/shipped`; returns it."""
    labels = [f"class {index}" for index in range(CLASSES)]
    write_bundle(home / BUNDLE, members=make_members(shape=COLOUR), labels=labels, provenance={"command": "test"})
    calibrate(home / BUNDLE, clean=ImageSet(images=noise(400, seed=1)), target=TargetFpr(0.2), device="cpu")
    rows = np.arange(COUNT)
    info = {"dataset": "noise", "sample": {"n": COUNT, "seed": 7}}
    test = ImageSet(images=noise(COUNT, seed=2), labels=rows % CLASSES, source_index=rows, info=info)
    test.save(home / IMAGES / "test.npz")
    for seed, name in enumerate(ATTACKS):
        attacked = (test.images // 2 + noise(COUNT, seed) // 2).astype(np.uint8)
        replace(test, images=attacked, info={"attack": {"name": name}}).save(home / IMAGES / f"{name}.npz")
    return home
