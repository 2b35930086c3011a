"""Images in a folder for each class: which files there are, and of which class.

    DIR/cat/1.jpg                              shared out by `training.splits`
    DIR/train/cat/1.jpg, DIR/test/cat/2.jpg    the same, and `test` is the test part

Hidden files and folders are passed over, and so are files whose names are no image's; a class may have folders
within its own.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from detector.errors import InputError
from detector.prediction import Ints

# Below it no ensemble has a log diversity: two members need three classes.
MIN_CLASSES: Final = 3
_OWN_TEST: Final = ("train", "test")

_LAYOUT: Final = "a folder of images for each class, or such folders in train and test"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of a folder, in the order of their rows.

    Attributes:
        root: The folder.
        files: Their paths below it, by class and name; those of `test` behind the others. Not `Path` objects,
            which take a kilobyte each.
        labels: (N,) int64.
        class_names: The names of the folders, sorted.
        test_rows: The rows that lie in `test`, or None where there is no such folder.
    """

    root: Path
    files: tuple[str, ...]
    labels: Ints
    class_names: tuple[str, ...]
    test_rows: Ints | None

    def digest(self, contents: NDArray[np.uint8]) -> str:
        """SHA-256 of names and contents: where it is the same, a row is the same image, and the parts are the same.

        Args:
            contents: (N, 32), the SHA-256 of each file.
        """
        names = b"\0".join(os.fsencode(file) for file in self.files)
        return hashlib.sha256(names + b"\0\0" + contents.tobytes()).hexdigest()


def list_folder(root: Path) -> Listing:
    """Lists the images of a folder.

    Args:
        root: In one of the layouts above.

    Raises:
        InputError: No such folder, fewer than three classes, a class without images, or other classes in `test`
            than in `train`.
    """
    if not root.is_dir():
        raise InputError(f"data-root: expected {_LAYOUT} in {root}, found no folder there")
    beside = _folders(root)
    own_test = set(_OWN_TEST) <= set(beside)
    if own_test and len(beside) > len(_OWN_TEST):
        others = ", ".join(sorted(set(beside) - set(_OWN_TEST)))
        raise InputError(f"data-root: expected nothing beside train and test in {root}, found {others}; add what is "
                         "in there to train, from which validation images are taken")  # fmt: skip
    with tqdm(desc="listing", unit=" files", disable=None, leave=False, delay=1) as bar:
        parts = [_classes(root, part, bar) for part in (_OWN_TEST if own_test else ("",))]
    names = tuple(parts[0])
    if own_test and names != tuple(parts[1]):
        differing = ", ".join(sorted(set(parts[0]) ^ set(parts[1])))
        raise InputError(f"data-root: expected the same classes in {root}/train and {root}/test, found only one of "
                         f"them with {differing}")  # fmt: skip
    if len(names) < MIN_CLASSES:
        raise InputError(f"data-root: expected {_LAYOUT} in {root}, of at least {MIN_CLASSES} classes, found "
                         f"{len(names)}{': ' if names else ''}{', '.join(names)}")  # fmt: skip
    counts = [[len(files) for files in part.values()] for part in parts]
    files = tuple(file for part in parts for of_class in part.values() for file in of_class)
    return Listing(
        root=root,
        files=files,
        labels=np.concatenate([np.repeat(np.arange(len(names)), count) for count in counts]),
        class_names=names,
        test_rows=np.arange(sum(counts[0]), len(files)) if own_test else None,
    )


def _folders(folder: Path) -> list[str]:
    """The names of the folders in one, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _classes(root: Path, part: str, bar: "tqdm[Any]") -> dict[str, list[str]]:
    """For each class, its images, as paths below the root."""
    found = {}
    for name in _folders(root / part):
        found[name] = list(_images(root, root / part / name))
        bar.update(len(found[name]))
        if not found[name]:
            raise InputError(f"{root / part / name}: expected images of a class, found none; put some there, or "
                             "remove the folder")  # fmt: skip
    return found


def _images(root: Path, folder: Path) -> Iterator[str]:
    """The images in a folder and in those within, sorted."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(at).relative_to(root).as_posix()
        for name in sorted(files):
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."):
                yield f"{below}/{name}"
