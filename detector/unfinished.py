"""Long work that is kept part by part until it is done, so that the same command goes on after a stop.

A folder beside the result holds what the work is, as JSON, and one `.npz` for each finished part; each is
written whole or not at all. Once the result is written, the folder goes.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.files import read_file, replacing, write_bytes

_WORK: Final = "work.json"


def folder_of(path: Path) -> Path:
    """Where the unfinished work for a file is kept."""
    return path.with_name(f"{path.name}.unfinished")


def discard(folder: Path) -> None:
    """Removes what was kept, if anything, once the result is written."""
    if (folder / _WORK).exists():
        shutil.rmtree(folder)


class Unfinished:
    """The finished parts of a piece of work.

    Args:
        folder: Made with the first part, if it is not there.
        work: What makes the result what it is, as JSON: settings, and digests of the inputs.

    Raises:
        InputError: The folder holds other work.
    """

    def __init__(self, folder: Path, work: Mapping[str, Any]) -> None:
        self._folder = folder
        self._note = json.dumps(work, sort_keys=True, indent=2).encode() + b"\n"
        note = folder / _WORK
        if note.exists() and read_file(note, lambda found: InputError(f"{note}: {found}")) != self._note:
            raise InputError(
                f"{folder}: expected what the same command left unfinished, found that of another; give its settings "
                "and files to go on, or remove the folder to begin anew"
            )

    def load(self, part: int) -> dict[str, NDArray[Any]] | None:
        """A finished part's arrays; None where it is not there."""
        path = self._path(part)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except Exception as error:  # noqa: BLE001  zipfile, zlib and numpy have no common class for damaged archives
            raise InputError(f"{path}: expected a finished part, found a damaged file ({error}); remove it") from None

    def save(self, part: int, **arrays: NDArray[Any]) -> None:
        """Keeps a part's arrays."""
        note = self._folder / _WORK
        if not note.exists():
            write_bytes(note, self._note)
        with replacing(self._path(part)) as unnamed, unnamed.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def discard(self) -> None:
        """Removes the parts, once the result is written."""
        discard(self._folder)

    def _path(self, part: int) -> Path:
        """The file of a part."""
        return self._folder / f"{part:06d}.npz"
