"""An `images.npz` read row by row: its images are never in memory all at once.

The file is a zip archive, and each of its arrays a stream of rows behind a header. What is small,
labels and the like, is read when the file is opened.
"""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.imageset import Images, check_images, check_known, parse_info, read_arrays
from detector.prediction import Ints

_SMALL = ("labels", "source_index", "clean_correct", "success", "info")


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """An array of images in an archive: (N, C, H, W), uint8 or float32, in C order."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def find(cls, path: Path, name: str) -> "_Rows | None":
        """Reads an array's header; None where the archive has no such array."""
        with _explained(path), zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
            with archive.open(f"{name}.npy") as file:
                shape, fortran, dtype = _header(file)
        rows = cls(path=path, name=name, shape=shape, dtype=dtype)
        if fortran:
            raise InputError(f"{rows}: expected rows in C order, found Fortran order; np.ascontiguousarray turns it")
        # Takes no memory, and is refused as the array itself would be.
        like = np.broadcast_to(np.zeros((), dtype), shape)
        check_images(like[:1] if like.ndim == 4 else like, str(rows))
        return rows

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        """Rows from a given one on, checked."""
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            with _explained(self.path):
                _header(file)
                file.seek(start * row_bytes, 1)
            for first in range(start, self.shape[0], size):
                count = min(size, self.shape[0] - first)
                with _explained(self.path):
                    content = file.read(count * row_bytes)
                if len(content) != count * row_bytes:
                    raise InputError(f"{self}: expected {self.shape[0]} images, found the file to end before")
                rows = np.frombuffer(content, dtype=self.dtype).reshape(count, *self.shape[1:])
                yield check_images(rows.astype(self.dtype.newbyteorder("="), copy=False), str(self), first)


class NpzImages:
    """Images in an `images.npz`, with what the file knows about them. See `detector.source.ImageSource`."""

    names = None

    def __init__(self, images: _Rows, clean: _Rows | None, known: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        self._images = images
        self._clean = clean
        self._known = known
        self._info = info

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a file; its images are read and checked later.

        Raises:
            InputError: As `ImageSet.load`, as far as headers and small arrays tell.
        """
        known = read_arrays(path, _SMALL)
        images, clean = _Rows.find(path, "images"), _Rows.find(path, "clean")
        if images is None:
            raise InputError(f"{path}: expected an array 'images', found {', '.join(sorted(known)) or 'none'}")
        info = known.pop("info", None)
        try:
            check_known(known, images.shape[0])
            read = {} if info is None else parse_info(info)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if clean is not None and clean.shape != images.shape:
            raise InputError(f"{clean}: expected shape {images.shape}, found {clean.shape}")
        return cls(images, clean, known, read)

    def __len__(self) -> int:
        return self._images.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self._images.shape

    @property
    def labels(self) -> Ints | None:
        """(N,), or None."""
        return self._known.get("labels")

    @property
    def source_index(self) -> Ints | None:
        """(N,), or None."""
        return self._known.get("source_index")

    @property
    def success(self) -> NDArray[np.bool_] | None:
        """(N,), or None."""
        return self._known.get("success")

    @property
    def clean_correct(self) -> NDArray[np.bool_] | None:
        """(N,), or None."""
        return self._known.get("clean_correct")

    @property
    def has_origins(self) -> bool:
        """Whether the file has the array `clean`."""
        return self._clean is not None

    @cached_property
    def attack(self) -> str | None:
        """Name of the attack that made the images, or None."""
        attack = self._info.get("attack")
        return str(attack["name"]) if isinstance(attack, Mapping) and "name" in attack else None

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        """The images from a given one on, so many at a time."""
        return self._images.batches(size, start)

    def origins(self, size: int) -> Iterator[Images]:
        """The array `clean`, or where there is none the images, so many at a time."""
        return (self._images if self._clean is None else self._clean).batches(size)

    def take(self, rows: Ints) -> Images:
        """The images of a few rows, in that order: reads the file up to the last of them."""
        wanted = set(rows.tolist())
        found: dict[int, NDArray[Any]] = {}
        for number, image in enumerate(image for batch in self.batches(64) for image in batch):
            if number in wanted:
                found[number] = image.copy()
            if len(found) == len(wanted):
                break
        taken = [found[row] for row in rows.tolist()]
        return np.stack(taken) if taken else np.empty((0, *self.shape[1:]), self._images.dtype)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever a damaged archive raises into an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  zipfile, zlib and numpy have no common class for damaged archives
        raise InputError(f"{path}: expected an .npz archive of plain arrays, found none ({error})") from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
