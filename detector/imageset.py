"""Images in a file: `images.npz`, the form in which commands hand them to each other.

Holds `images` (N, C, H, W), uint8 or float32 in [0, 1]; and where known `labels` (N,) int64 and
`source_index` (N,) int64, the row of its data set an image came from. Attacks add `clean`,
`clean_correct`, `success` and their parameters; those that only ask, `queries`, and those that know the detector,
`evaded`. Read with pickles forbidden.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.files import replacing
from detector.prediction import Ints, check_labels

Images = NDArray[np.uint8] | NDArray[np.float32]


def as_floats(images: Images) -> NDArray[np.float32]:
    """uint8 to float32 in [0, 1], and float32 as it is: the one place where a pixel becomes a number."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return np.asarray(images, dtype=np.float32)


def check_images(images: Any, where: str = "images", first: int = 0) -> Images:
    """Returns images as a (N, C, H, W) array of uint8, or of float32 within [0, 1].

    Args:
        images: The array.
        where: How a message names it.
        first: The number of its first image, for messages, where it is part of something larger.

    Raises:
        InputError: Another shape or dtype, no images, NaN or infinity, or a value outside [0, 1].
            Names the first bad image.
    """
    array = np.asarray(images)
    if array.dtype not in (np.uint8, np.float32):
        hint = "; astype(np.float32) converts it" if array.dtype.kind == "f" else ""
        raise InputError(f"{where}: expected uint8 or float32, found {array.dtype}{hint}")
    if array.ndim != 4:
        raise InputError(f"{where}: expected shape (N, C, H, W), found {array.shape}")
    if len(array) == 0:
        raise InputError(f"{where}: expected at least one image, found none")
    # NaN is the least and the greatest of whatever it is in, and fails both comparisons. Two passes that keep nothing
    # are quicker than an answer for each value.
    if array.dtype == np.float32 and not (array.min(initial=1) >= 0 and array.max(initial=0) <= 1):
        inside = (array >= 0) & (array <= 1)
        bad = int(np.flatnonzero(~inside.all(axis=(1, 2, 3)))[0])
        value = array[bad][~inside[bad]][0]
        raise InputError(f"{where}[{first + bad}]: expected values in [0, 1], found {value}")
    return array


def check_known(known: Mapping[str, Any], count: int) -> None:
    """Raises InputError unless what is known about so many images, by its name in the file, fits them."""
    for name in ("labels", "source_index", "queries"):
        value = known.get(name)
        if value is not None and (value.shape != (count,) or not np.issubdtype(value.dtype, np.integer)):
            raise InputError(f"{name}: expected ({count},) integers, found {value.shape} {value.dtype}")
    queries = known.get("queries")
    if queries is not None and (queries < 1).any():
        raise InputError(f"queries: expected at least 1 for each image, found {queries.min()}")
    for name in ("clean_correct", "success", "evaded"):
        value = known.get(name)
        if value is not None and (value.shape != (count,) or value.dtype != np.bool_):
            raise InputError(f"{name}: expected ({count},) booleans, found {value.shape} {value.dtype}")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with what is known about them.

    Attributes:
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        labels: (N,) int64, or None.
        source_index: (N,) int64, the row of its data set each image came from, or None.
        clean: For attacked images, the (N, C, H, W) inputs the attack started from.
        clean_correct: For attacked images, (N,) bool: the clean input was classified right.
        success: For attacked images, (N,) bool: right before the attack and wrong after it.
        evaded: For images attacked by someone who knows the detector, (N,) bool: a success that is not flagged.
        queries: For images attacked without gradients, (N,) int64, at least 1: how often each was asked about.
        info: What made the file, as JSON: for attacked images `{"attack": {...}, ...}`.
    """

    images: Images
    labels: Ints | None = None
    source_index: Ints | None = None
    clean: Images | None = None
    clean_correct: NDArray[np.bool_] | None = None
    success: NDArray[np.bool_] | None = None
    evaded: NDArray[np.bool_] | None = None
    queries: Ints | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name)))
        check_images(self.images)
        check_known(vars(self), len(self.images))
        if self.clean is not None:
            check_images(self.clean, "clean")
            if self.clean.shape != self.images.shape:
                raise InputError(f"clean: expected shape {self.images.shape}, found {self.clean.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def attack(self) -> str | None:
        """Name of the attack that made the images, for example `pgd10-0.1`; None where none is recorded."""
        attack = self.info.get("attack")
        return str(attack["name"]) if isinstance(attack, Mapping) and "name" in attack else None

    @property
    def has_origins(self) -> bool:
        """Whether `origins` are other images than these."""
        return self.clean is not None

    @property
    def names(self) -> None:
        """There are no files of single images that could have names."""

    @property
    def rows(self) -> Ints:
        """(N,), what an image's random draws are keyed by: its row of its data set, or else its place here."""
        return np.arange(len(self)) if self.source_index is None else self.source_index

    def true_labels(self, shape: tuple[int, ...], classes: int) -> Ints:
        """The labels, (N,), once images, labels and rows fit what is to be attacked.

        Args:
            shape: (C, H, W) of its images.
            classes: L.

        Raises:
            InputError: They do not fit, or there are no labels.
        """
        if self.images.shape[1:] != tuple(shape):
            raise InputError(f"images: expected shape (N, {', '.join(map(str, shape))}), found {self.images.shape}")
        if self.labels is None:
            raise InputError("labels: expected the true label of each image, found none")
        if self.source_index is not None and (self.source_index < 0).any():
            raise InputError(f"source_index: expected rows of a data set, found {self.source_index.min()}")
        return check_labels(self.labels, len(self), classes)

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        """The images from a given one on, so many at a time."""
        for first in range(start, len(self), size):
            yield self.images[first : first + size]

    def origins(self, size: int) -> Iterator[Images]:
        """What the images were made from, so many at a time: `clean`, or where there is none the images themselves."""
        source = self.images if self.clean is None else self.clean
        for first in range(0, len(self), size):
            yield source[first : first + size]

    def take(self, rows: Ints) -> Images:
        """The images of some rows, in that order."""
        return self.images[rows]

    def only(self, mask: NDArray[np.bool_]) -> "ImageSet":
        """The images of a mask (N,) that has at least one True, with all that is known about them."""
        arrays = {name: value[mask] for name in _ARRAYS if (value := getattr(self, name)) is not None}
        return ImageSet(**arrays, info=self.info)

    @classmethod
    def load(cls, path: Path | str) -> "ImageSet":
        """Reads an `images.npz`.

        Raises:
            InputError: Not such a file, or content that does not fit; names the file and the array.
        """
        path = Path(path)
        arrays = read_arrays(path, (*_ARRAYS, "info"))
        if "images" not in arrays:
            raise InputError(f"{path}: expected an array 'images', found {', '.join(sorted(arrays)) or 'none'}")
        info = arrays.pop("info", None)
        try:
            return cls(**arrays, info={} if info is None else parse_info(info))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def save(self, path: Path | str) -> None:
        """Writes an `images.npz`, whole or not at all."""
        arrays = {name: value for name in _ARRAYS if (value := getattr(self, name)) is not None}
        if self.info:
            arrays["info"] = np.array(json.dumps(self.info, sort_keys=True))
        with replacing(Path(path)) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)


_ARRAYS = ("images", "labels", "source_index", "clean", "clean_correct", "success", "evaded", "queries")


def read_arrays(path: Path, names: Collection[str]) -> dict[str, Any]:
    """The arrays of these names that an npz file has, pickles forbidden.

    Raises:
        InputError: Not such a file.
    """
    try:
        with path.open("rb") as file:  # np.load does not close one that is damaged
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return {name: loaded[name] for name in loaded.files if name in names}
    except FileNotFoundError:
        raise InputError(f"{path}: expected an images .npz, found no file") from None
    except Exception as error:  # noqa: BLE001  zipfile, zlib and numpy have no common class for damaged archives
        raise InputError(f"{path}: expected an .npz archive of plain arrays, found none ({error})") from None
    raise InputError(f"{path}: expected an .npz archive, found a single array")


def parse_info(info: NDArray[Any]) -> dict[str, Any]:
    """The JSON of the array `info`."""
    try:
        value = json.loads(str(info))
    except (ValueError, RecursionError) as error:
        raise InputError(f"info: expected JSON, found {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"info: expected a JSON object, found {type(value).__name__}")
    return value
