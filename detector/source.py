"""What is needed of images that need not all be in memory: an `ImageSet`, an `.npz` read row by row, or a folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.imageset import Images
from detector.prediction import Ints


class ImageSource(Protocol):
    """Images in a fixed order, with what is known about them."""

    @property
    def labels(self) -> Ints | None:
        """(N,) classes, or None."""

    @property
    def source_index(self) -> Ints | None:
        """(N,) the row of its data set each image came from, or None."""

    @property
    def success(self) -> NDArray[np.bool_] | None:
        """(N,) for attacked images: the attack turned a right prediction wrong; or None."""

    @property
    def clean_correct(self) -> NDArray[np.bool_] | None:
        """(N,) for attacked images: the clean input was classified right; or None."""

    @property
    def has_origins(self) -> bool:
        """Whether `origins` are other images than these."""

    @property
    def names(self) -> Sequence[str] | None:
        """N names of files without their endings, in folders or not; None where there are no such files."""

    @property
    def attack(self) -> str | None:
        """The attack that made the images, or None."""

    def __len__(self) -> int:
        """How many images there are."""

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        """The images from a given one on, so many at a time; each batch is read when it is asked for."""

    def origins(self, size: int) -> Iterator[Images]:
        """What the images were made from, so many at a time; the images themselves where that is not known."""

    def take(self, rows: Ints) -> Images:
        """The images of a few rows, in that order."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Some images of a source, which are not read.

    Attributes:
        source: Where they are.
        rows: (n,) which they are.
    """

    source: ImageSource
    rows: Ints

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> Ints | None:
        """(n,) classes, or None."""
        return None if self.source.labels is None else self.source.labels[self.rows]

    @property
    def success(self) -> NDArray[np.bool_] | None:
        """(n,) for attacked images, or None."""
        return None if self.source.success is None else self.source.success[self.rows]

    def only(self, mask: NDArray[np.bool_]) -> "Selection":
        """Those of a mask (n,)."""
        return Selection(source=self.source, rows=self.rows[mask])

    def take(self, rows: Ints) -> Images:
        """The images of a few rows of these, in that order."""
        return self.source.take(self.rows[rows])
