"""Files that are written whole or not at all, and read with a refusal for whatever is no file.

A file is written beside its final place and renamed over it, so that a reader, or a process that
is killed in between, sees the old content or the new and nothing else.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.errors import InputError, LedgateError


def name_of(path: Path) -> str:
    """What a path calls the file or folder that it leads to: a link's own name, not that of what is behind it."""
    return path.name if path.name not in ("", "..") else path.resolve().name


def _sibling(path: Path) -> Path:
    """A name for unfinished work, in the same folder and so on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _flush(path: Path) -> None:
    """Sees to it that a file or folder survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write to; on leaving without an error, that file takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _sibling(path)
    try:
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def read_file(path: Path, refuse: Callable[[str], LedgateError], *, limit: int | None = None) -> bytes:
    """Reads a file.

    Args:
        path: Of the file.
        refuse: Makes the error to raise from what was expected and found.
        limit: More bytes are refused.

    Raises:
        LedgateError: (what `refuse` makes) nothing there, a folder, a pipe, or no right to read it.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise refuse(f"expected a file, found {'a folder' if path.is_dir() else 'something else'}")
        if limit is not None and status.st_size > limit:
            raise refuse(f"expected at most {limit} bytes, found {status.st_size}")
        return path.read_bytes()
    except FileNotFoundError:
        raise refuse("expected a file, found none") from None
    except OSError as error:
        raise refuse(f"expected a readable file, found: {error.strerror}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill; on leaving without an error, it appears as `path`.

    Raises:
        InputError: `path` exists and is not an empty folder: nothing is overwritten.
    """
    refuse_existing(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _sibling(path)
    part.mkdir()
    try:
        yield part
        for file in part.iterdir():
            _flush(file)
        _flush(part)
        refuse_existing(path)
        part.replace(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_existing(path: Path) -> None:
    """Raises where something would be overwritten; an empty folder is nothing."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise InputError(f"{path}: expected a new folder, found an existing one; remove it or choose another name")
