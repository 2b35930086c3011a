"""Labelled images by name: what can be trained on.

A data set is all of its images in one order that never changes; an image's row in that order is its
`source_index`, and stays with it through splits and attacks. A new data set is one function here and
one line in `DATASETS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from sklearn.datasets import load_digits

from detector.errors import InputError
from detector.imageset import Images, check_images
from detector.prediction import Ints, check_labels


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All images of a data set.

    Attributes:
        name: As in `DATASETS`.
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        labels: (N,) int64.
        class_names: One for each label, in order.
        test_rows: The rows its authors set aside for testing, or None where they did not.
    """

    name: str
    images: Images
    labels: Ints
    class_names: tuple[str, ...]
    test_rows: Ints | None = None

    def __post_init__(self) -> None:
        check_images(self.images, self.name)
        check_labels(self.labels, len(self.images), len(self.class_names))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        _, channels, height, width = self.images.shape
        return channels, height, width


def digits() -> Dataset:
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


DATASETS: Final[Mapping[str, Callable[[], Dataset]]] = MappingProxyType({"digits": digits})


def load(name: str) -> Dataset:
    """Returns a data set by its name.

    Raises:
        InputError: No data set of that name.
    """
    if name not in DATASETS:
        raise InputError(f"dataset: expected one of {', '.join(sorted(DATASETS))}, found {name!r}")
    return DATASETS[name]()
