"""The pixels of listed images, decoded once and kept in one file that need not fit into memory, with their digest.

They are decoded as `detector.decoding` does for a server, so that an image has the same pixels in training, in
calibration and in a request: an image of another size is stretched to size, nothing is cut off. The file lies in
`$LEDGATE_CACHE`, by default `~/.cache/ledgate`, since data sets are often read-only; it can be removed at any
time. Its name is a digest of the listing with the files' sizes and times: a changed folder is decoded anew. Beside it
lies a digest of what the files hold, which is the same wherever they are copied to, and whenever.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import pil_loader
from tqdm import tqdm

from detector.decoding import MAX_PIXELS, decode_image
from detector.errors import InputError
from detector.files import read_file, replacing, write_bytes
from detector.inputspec import InputSpec
from training.listing import Listing

CACHE_VARIABLE: Final = "LEDGATE_CACHE"
# To be raised when the same images come to other pixels than before, or to another digest.
_FORM: Final = 2
# Files of up to so many bytes are read whole: training is simplest and fastest from memory.
IN_MEMORY: Final = 2**30
# A photograph may be larger than what a server takes from strangers. Pillow itself warns from 89 million pixels.
_MAX_PIXELS: Final = 5 * MAX_PIXELS
# The EXIF tag that says how a camera was held, and the least of its values that stand for a quarter turn.
_ORIENTATION: Final = 0x0112
_LYING: Final = 5
# Images that one thread decodes at a time.
_CHUNK: Final = 64
# Refused images that a message names, beside the first.
_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What a listing's files hold.

    Attributes:
        images: (N, C, H, W) uint8, EXIF orientation applied; C is 1 where all images are grey, else 3. A `numpy.memmap`
            where they take more than 1 GiB.
        digest: SHA-256 of names and contents: where it is the same, a row is the same image.
    """

    images: NDArray[np.uint8]
    digest: str


def pixels(listing: Listing, image_size: int = 0) -> Pixels:
    """Returns the images of a listing, from the cache where they have been decoded before.

    Args:
        listing: What to decode.
        image_size: Height and width to stretch every image to; 0 expects all images to have the size of the first.

    Raises:
        InputError: An image that is damaged, or neither PNG nor JPEG of 8-bit grey or RGB, named with what is wrong;
            images of several sizes; or no room for the cache.
    """
    file = _cache() / f"{_key(listing, image_size)}.npy"
    try:
        if not _decoded(file):
            with _held(file):
                if not _decoded(file):  # still
                    _decode(listing, image_size, file)
        images = np.load(file, mmap_mode=None if file.stat().st_size <= IN_MEMORY else "r")
        return Pixels(images=images, digest=bytes.fromhex(_digest_file(file).read_text("ascii")).hex())
    except OSError as error:
        raise InputError(f"{file}: expected to keep decoded images there, found: {error.strerror}; ${CACHE_VARIABLE} "
                         "names a folder with room for them") from None  # fmt: skip
    except InputError:
        raise
    except (ValueError, EOFError) as error:
        raise InputError(f"{file}: expected decoded images, found a damaged file ({error}); remove it") from None


def _cache() -> Path:
    """The folder for decoded images."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(base) / "ledgate")


def _digest_file(file: Path) -> Path:
    """Where the digest of decoded images lies."""
    return file.with_suffix(".sha256")


def _decoded(file: Path) -> bool:
    """Whether there is nothing left to do."""
    return file.exists() and _digest_file(file).exists()


def _key(listing: Listing, image_size: int) -> str:
    """A digest of everything that the pixels follow from, short of reading the files."""
    digest = hashlib.sha256(f"{_FORM} pillow {version('pillow')} {image_size}".encode())
    for name in tqdm(listing.files, desc="looking for changes", unit=" files", disable=None, leave=False, delay=1):
        file = listing.root / name
        try:
            status = file.stat()
        except OSError as error:
            raise InputError(f"{file}: expected a readable file, found: {error.strerror}") from None
        digest.update(os.fsencode(f"\0{name}\0{status.st_size}\0{status.st_mtime_ns}"))
    return digest.hexdigest()[:32]


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """One process decodes while the others of the same training wait for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for part in file.parent.glob(f".{file.name}.*.part"):  # what a killed process was writing
            part.unlink()
        yield


def _decode(listing: Listing, image_size: int, file: Path) -> None:
    """Writes the file: grey as long as all images are, and from the start as RGB once one is not."""
    height, width = (image_size, image_size) if image_size else _own_size(listing.root / listing.files[0])
    with replacing(file) as part:
        for channels in (1, 3):
            spec = InputSpec(shape=(channels, height, width), resize=bool(image_size), grey_to_rgb=channels == 3)
            refused, contents = _fill(part, listing, spec, give_up=channels == 1)
            if not refused:
                write_bytes(_digest_file(file), listing.digest(contents).encode())
                return
        raise _refusal(listing, refused, spec)


def _own_size(file: Path) -> tuple[int, int]:
    """Height and width of an image, as it is seen."""
    _image(file, InputSpec(shape=(3, 1, 1), resize=True, grey_to_rgb=True))  # says what is wrong with it, if anything
    picture = pil_loader(file)
    lying = picture.getexif().get(_ORIENTATION, 1) >= _LYING
    return (picture.width, picture.height) if lying else (picture.height, picture.width)


def _fill(part: Path, listing: Listing, spec: InputSpec, *, give_up: bool) -> tuple[list[str], NDArray[np.uint8]]:
    """Decodes into a new file.

    Returns:
        The names of images that were refused, or after `give_up` some of them; and (N, 32), what the files hold as
        SHA-256, where none was.
    """
    count = len(listing.files)
    contents = np.zeros((count, hashlib.sha256().digest_size), dtype=np.uint8)
    images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(count, *spec.shape))
    with part.open("r+b") as file:  # a full disk says so now, rather than by a signal later
        os.posix_fallocate(file.fileno(), 0, part.stat().st_size)

    def decode(start: int) -> list[str]:
        refused = []
        for row in range(start, min(start + _CHUNK, count)):
            try:
                images[row], digest = _image(listing.root / listing.files[row], spec)
                contents[row] = np.frombuffer(digest, dtype=np.uint8)
            except InputError:
                refused.append(listing.files[row])
        return refused

    found = []
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads,
        tqdm(total=count, desc="decoding", unit=" images", disable=None, leave=False, delay=1) as bar,
    ):
        for refused in threads.map(decode, range(0, count, _CHUNK)):
            found += refused
            if found and give_up:
                break  # which also cancels what has not begun
            bar.update(min(_CHUNK, count - bar.n))
    return found, contents


def _image(file: Path, spec: InputSpec) -> tuple[NDArray[np.uint8], bytes]:
    """One image, and the SHA-256 of its file."""
    content = read_file(file, lambda reason: InputError(f"{file}: {reason}"))
    return decode_image(content, spec, max_pixels=_MAX_PIXELS, where=str(file)), hashlib.sha256(content).digest()


def _refusal(listing: Listing, refused: list[str], spec: InputSpec) -> InputError:
    """What is wrong with the first of them, and which others there are."""
    first, *others = refused
    more = f"; {len(others)} more are refused: {', '.join(others[:_NAMED])}" if others else ""
    if len(others) > _NAMED:
        more += ", ..."
    try:
        _image(listing.root / first, spec.model_copy(update={"resize": True}))
    except InputError as error:
        return InputError(f"{error}{more}")
    _, height, width = spec.shape
    return InputError(f"{listing.root / first}: expected {width} x {height} pixels as in {listing.files[0]}, found "
                      f"another size; --image-size N stretches all images to N x N{more}")  # fmt: skip
