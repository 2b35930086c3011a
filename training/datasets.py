"""Labelled images by name: what can be trained on.

A data set is all of its images in one order that never changes; an image's row in that order is its
`source_index`, and stays with it through splits and attacks. Those of torchvision come with a test part of
their own, and so may a folder: its rows stand behind the others.
"""

import contextlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from textwrap import shorten
from types import MappingProxyType
from typing import Any, Final
from urllib.error import URLError

import numpy as np
import torchvision.datasets as published
from sklearn.datasets import load_digits

from detector.errors import InputError, SettingError
from detector.imageset import Images, check_images
from detector.prediction import Ints, check_labels
from training.listing import list_folder
from training.pixels import pixels


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All images of a data set.

    Attributes:
        name: As in `DATASETS`.
        images: (N, C, H, W), uint8 or float32 in [0, 1]; a `numpy.memmap` where they stay on disk.
        labels: (N,) int64.
        class_names: One for each label, in order.
        test_rows: The rows its authors set aside for testing, or None where they did not.
        listing: Digest of the files' names and contents where they are the user's own: rows, and so the parts, mean
            the same images as long as it is the same. None where the name alone says which images these are.
    """

    name: str
    images: Images
    labels: Ints
    class_names: tuple[str, ...]
    test_rows: Ints | None = None
    listing: str | None = None

    def __post_init__(self) -> None:
        check_images(self.images, self.name)
        check_labels(self.labels, len(self.images), len(self.class_names), f"{self.name} labels")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        _, channels, height, width = self.images.shape
        return channels, height, width


def digits(root: Path, *, download: bool, image_size: int) -> Dataset:  # noqa: ARG001  takes what the others take
    """The handwritten digits that come with scikit-learn: 1,797 grey images of 8 x 8, in 17 steps of grey.

    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (CC BY 4.0); no download.
    """
    bunch = load_digits()
    return Dataset(
        name="digits",
        images=(bunch.images[:, None] / 16).astype(np.float32),
        labels=bunch.target.astype(np.int64),
        class_names=tuple(str(label) for label in bunch.target_names),
    )


def folder(root: Path, *, download: bool, image_size: int) -> Dataset:  # noqa: ARG001  there is nowhere to fetch it
    """The user's own images, in a folder for each class; uint8."""
    listing = list_folder(root)
    found = pixels(listing, image_size)
    return Dataset(
        name="folder",
        images=found.images,
        labels=listing.labels,
        class_names=listing.class_names,
        test_rows=listing.test_rows,
        listing=found.digest,
    )


def _published(
    root: Path,
    *,
    name: str,
    loader: Callable[..., Any],
    download: bool,
    image_size: int,  # noqa: ARG001  takes what the others take
) -> Dataset:
    """One of torchvision's, as it lies in a folder: training images first, then test images; uint8."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the standard output is for the command's own result
            parts = [loader(root, train=train, download=download) for train in (True, False)]
    except _NO_NETWORK as error:
        raise _not_fetched(name, root, error) from None
    except _DAMAGED as error:
        if download and "Error downloading" in str(error):
            raise _not_fetched(name, root, error) from None
        raise InputError(
            f"data-root: expected {name} as torchvision lays it out in {root}, found none or a damaged one "
            f"({_said(error)}); --data-root DIR says where it lies, --download fetches it there, once a damaged one "
            "is removed"
        ) from None
    images = np.concatenate([np.asarray(part.data) for part in parts])
    labels = np.concatenate([np.asarray(part.targets, dtype=np.int64) for part in parts])
    channels_last = images if images.ndim == 4 else images[..., None]
    return Dataset(
        name=name,
        images=np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)),
        labels=labels,
        class_names=tuple(parts[0].classes),
        test_rows=np.arange(len(parts[0]), len(images)),
    )


# What torchvision lets through when it cannot reach a server, or finds other bytes than it wrote.
_NO_NETWORK: Final = (URLError, ConnectionError, TimeoutError, HTTPException)
_DAMAGED: Final = (
    AssertionError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def _not_fetched(name: str, root: Path, error: Exception) -> InputError:
    """What to do without a network."""
    return InputError(f"download: expected to fetch {name} from the network, found no way to ({_said(error)}); bring "
                      f"it to {root} by other means, as torchvision lays it out")  # fmt: skip


def _said(error: Exception) -> str:
    """An error on one line."""
    return shorten(str(error), 160, placeholder=" ...") or type(error).__name__


DATASETS: Final[Mapping[str, Callable[..., Dataset]]] = MappingProxyType(
    {"digits": digits, "folder": folder}
    | {
        name: partial(_published, name=name, loader=loader)
        for name, loader in {
            "mnist": published.MNIST,
            "fashion-mnist": published.FashionMNIST,
            "cifar10": published.CIFAR10,
            "cifar100": published.CIFAR100,
        }.items()
    }
)

# Where data sets are looked for when nobody says.
ROOT_VARIABLE: Final = "LEDGATE_DATA"


def load(name: str, *, root: Path | str | None = None, download: bool = False, image_size: int = 0) -> Dataset:
    """Returns a data set by its name.

    Args:
        name: As in `DATASETS`.
        root: The folder it lies in, and for `folder` the one with the classes; by default that of the environment's
            LEDGATE_DATA, else `data`.
        download: Whether to fetch it there where it is missing.
        image_size: Of `folder`: height and width to bring every image to; 0 is the images' own.

    Raises:
        InputError: No data set of that name, or none in that folder, or images or labels that do not fit.
    """
    if name not in DATASETS:
        raise SettingError(f"dataset: expected one of {', '.join(sorted(DATASETS))}, found {name!r}")
    if image_size < 0 or (image_size and name != "folder"):
        expected = "at least 0" if name == "folder" else f"0, since {name} has a size of its own"
        raise SettingError(f"image_size: expected {expected}, found {image_size}")
    where = Path(root) if root is not None else Path(os.environ.get(ROOT_VARIABLE) or "data")
    return DATASETS[name](where, download=download, image_size=image_size)
