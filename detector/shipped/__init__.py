"""What comes with ledgate: a calibrated bundle to serve at once, and images to show it with.

    cifar10/            three ResNet-20 trained with ADP on CIFAR-10, and their calibration
    images/test.npz     CIFAR-10 test images, drawn at random
    images/ATTACK.npz   the same after an attack on all members, in 8 bits as they are

`scripts/shipped` makes all of it from a training run. The test images choose nothing: neither the
weights nor the threshold have met them.
"""

from pathlib import Path
from typing import Final

import numpy as np

from detector.errors import BundleError
from detector.imageset import ImageSet
from detector.prediction import Ints

HOME: Final = Path(__file__).resolve().parent
# The folder's name is the name of the model that a server offers.
BUNDLE: Final = "cifar10"
IMAGES: Final = "images"
CLEAN: Final = "test"


def shipped_bundle(home: Path = HOME) -> Path:
    """The folder of the bundle that comes with ledgate.

    Args:
        home: Where to look; by default in this package.

    Raises:
        BundleError: It is not there.
    """
    path = home / BUNDLE
    if not path.is_dir():
        raise BundleError(
            f"{path}: expected the bundle that comes with ledgate, found nothing; name a bundle of your own"
        )
    return path


def shipped_images(home: Path = HOME) -> tuple[ImageSet, dict[str, ImageSet]]:
    """The images that come with ledgate.

    Args:
        home: Where to look; by default in this package.

    Returns:
        Test images with their labels; and by the attack's name, sorted, the same images after it, in
        the same order.

    Raises:
        BundleError: They are not there, or not of each other.
    """
    folder = home / IMAGES
    if not (folder / f"{CLEAN}.npz").is_file():
        raise BundleError(f"{folder}: expected the images that come with ledgate, found none; install ledgate again")
    clean = ImageSet.load(folder / f"{CLEAN}.npz")
    attacked = {path.stem: ImageSet.load(path) for path in sorted(folder.glob("*.npz")) if path.stem != CLEAN}
    for name, images in attacked.items():
        if not np.array_equal(_rows(images), _rows(clean)):
            raise BundleError(f"{folder / name}.npz: expected the images of {CLEAN}.npz after an attack, found others")
    return clean, attacked


def _rows(images: ImageSet) -> Ints:
    """Which rows of their data set the images are; no rows where that is not recorded."""
    return np.empty(0, dtype=np.int64) if images.source_index is None else images.source_index
