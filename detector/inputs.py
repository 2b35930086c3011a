"""What a command was given for images: an `.npz`, or a folder; opened, and its content's digest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from detector.bundle import Bundle
from detector.errors import InputError
from detector.folderimages import FolderImages
from detector.npzimages import NpzImages
from detector.source import ImageSource


def open_images(path: Path, bundle: Bundle) -> ImageSource:
    """Opens an `.npz` or a folder of images, to be read a batch at a time.

    Raises:
        InputError: It is neither, or its images do not have the bundle's shape.
    """
    if path.is_dir():
        return FolderImages.open(path, bundle.input, bundle.labels)
    images = NpzImages.open(path)
    expected = bundle.input.shape
    if images.shape[1:] != expected:
        raise InputError(f"{path}: expected shape (N, {', '.join(map(str, expected))}), found {images.shape}")
    return images


def named_images(paths: Sequence[Path], bundle: Bundle) -> dict[str, ImageSource]:
    """Opens images by the name of the attack that made them, or else of their file or folder.

    Raises:
        InputError: See `open_images`; or two of one name.
    """
    named: dict[str, ImageSource] = {}
    for path in paths:
        images = open_images(path, bundle)
        name = images.attack or path.stem
        if name in named:
            raise InputError(f"{path}: expected one file for each attack or kind, found another of '{name}'")
        named[name] = images
    return named


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, that of the list of its files' digests and names, in order."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file_path in sorted(path.rglob("*"), key=lambda one: one.relative_to(path).parts):
        if file_path.is_file():
            whole.update(f"{digest(file_path)}  {file_path.relative_to(path).as_posix()}\n".encode())
    return whole.hexdigest()
