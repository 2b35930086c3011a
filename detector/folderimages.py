"""A folder of PNG and JPEG files, decoded one batch at a time by the one decoder, in the order of their names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from detector.decoding import decode_image
from detector.errors import InputError
from detector.files import read_file
from detector.imageset import Images
from detector.inputspec import InputSpec
from detector.prediction import Ints

_SUFFIXES: Final = (".png", ".jpg", ".jpeg")


class FolderImages:
    """Images in a folder. See `detector.source.ImageSource`.

    Attributes:
        files: The images, sorted by their path in the folder.
        labels: (N,) where the images lie in folders named as the classes; else None.
        names: N paths in the folder, without their endings.
    """

    source_index: Ints | None = None
    success: NDArray[np.bool_] | None = None
    clean_correct: NDArray[np.bool_] | None = None
    has_origins = False
    attack: str | None = None

    def __init__(self, folder: Path, files: tuple[Path, ...], labels: Ints | None, spec: InputSpec) -> None:
        self.files = files
        self.names = tuple(path.relative_to(folder).with_suffix("").as_posix() for path in files)
        self.labels = labels
        self._spec = spec

    @classmethod
    def open(cls, folder: Path, spec: InputSpec, class_names: tuple[str, ...]) -> Self:
        """Lists a folder; files are read and decoded later.

        Args:
            folder: Holds PNG or JPEG files, in it or in folders of it; hidden ones do not count.
            spec: What the bundle takes.
            class_names: The bundle's. Where the folders in it are named so, they are the labels.

        Raises:
            InputError: No image, a file of another kind, or some images in folders of a class and
                some not.
        """
        inside = [path for path in folder.rglob("*") if not _hidden(path.relative_to(folder))]
        files = sorted((path for path in inside if path.is_file()), key=lambda path: path.relative_to(folder).parts)
        for path in files:
            if path.suffix.lower() not in _SUFFIXES:
                raise InputError(f"{path}: expected PNG and JPEG files only, found another; move it out of {folder}")
        if not files:
            raise InputError(f"{folder}: expected PNG or JPEG files, found none")
        return cls(folder, tuple(files), _labels(folder, files, class_names), spec)

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        """The images from a given one on, so many at a time.

        Raises:
            InputError: A file that is no image, or does not fit the bundle; names it.
        """
        for first in range(start, len(self.files), size):
            yield self._decode(self.files[first : first + size])

    def origins(self, size: int) -> Iterator[Images]:
        """The images themselves: a folder does not tell what they were made from."""
        return self.batches(size)

    def take(self, rows: Ints) -> Images:
        """The images of a few rows, in that order."""
        return self._decode([self.files[row] for row in rows.tolist()])

    def _decode(self, files: tuple[Path, ...] | list[Path]) -> NDArray[np.uint8]:
        """Some files as (N, C, H, W)."""
        images = np.empty((len(files), *self._spec.shape), dtype=np.uint8)
        for image, path in zip(images, files, strict=True):
            image[:] = self._decode_one(path)
        return images

    def _decode_one(self, path: Path) -> NDArray[np.uint8]:
        """One file as (C, H, W)."""
        content = read_file(path, lambda found: InputError(f"{path}: {found}"))
        return decode_image(content, self._spec, where=str(path))


def _hidden(path: Path) -> bool:
    """Whether a file or a folder above it has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _labels(folder: Path, files: list[Path], class_names: tuple[str, ...]) -> Ints | None:
    """The class of each file, by the first folder on the way to it; None where no folder is named as a class."""
    classes = {name: label for label, name in enumerate(class_names)}
    names = [parts[0] if len(parts := path.relative_to(folder).parts) > 1 else None for path in files]
    known = [name in classes for name in names]
    if not any(known):
        return None
    if not all(known):
        stray = files[known.index(False)]
        raise InputError(
            f"{stray}: expected every image in a folder named as a class of the bundle, as others are, found another; "
            "to go without labels, put all images into one folder"
        )
    return np.array([classes[str(name)] for name in names], dtype=np.int64)
