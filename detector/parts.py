"""Parts of a calibration, disjoint by source image.

An attacked image and the clean one it came from are one source; a threshold chosen on either is
never reported on the other. Sources are known by `source_index` where every set has it, else by the
pixels of the clean image, else, where every set is a folder, by the names of the files in it. Images
of one source are no independent draws, and promises count those: of each set, one image of a source
counts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError, SettingError
from detector.imageset import Images, as_floats
from detector.source import ImageSource

Source = int | bytes | str

_BATCH: Final = 64

# Streams of one seed, so that no draw depends on another.
_FIT: Final = 1
_SINGLE: Final = 2


class _Key(Enum):
    """What tells a source."""

    INDEX = auto()
    PIXELS = auto()
    NAME = auto()


class Sources:
    """Tells which images of some sets come from one source.

    Args:
        clean: Sets of clean images.
        attacked: Sets of attacked images, by name.

    Raises:
        InputError: An attacked set from which no source can be told.
    """

    def __init__(self, clean: Iterable[ImageSource], attacked: Iterable[tuple[str, ImageSource]]) -> None:
        clean, attacked = list(clean), list(attacked)
        every = [*clean, *(images for _, images in attacked)]
        strange = [name for name, images in attacked if not images.has_origins]
        self._key = _Key.PIXELS
        if all(images.source_index is not None for images in every):
            self._key = _Key.INDEX
        elif strange and all(images.names is not None for images in every):
            self._key = _Key.NAME
        elif strange:
            raise InputError(
                f"{strange[0]}: expected the array 'clean', or 'source_index' in every file, so that the images behind "
                "the threshold and behind the report can be told apart; found neither. 'clean' holds the images as "
                "they were before the attack, 'source_index' the row each came from; or give folders only, in which "
                "an attacked image has the name of the clean one"
            )

    def of(self, images: ImageSource, pixels: NDArray[np.uint8] | None = None) -> list[Source]:
        """The source of each image; `pixels` are the digests of its images where they have been made, (N, 32)."""
        if self._key is _Key.INDEX and images.source_index is not None:
            return [int(index) for index in images.source_index]
        if self._key is _Key.NAME and images.names is not None:
            return list(images.names)
        if pixels is None or images.has_origins:
            pixels = np.concatenate([pixel_digests(batch) for batch in images.origins(_BATCH)])
        return [digest.tobytes() for digest in pixels]


def one_of_each(sources: Sequence[Source], seed: int) -> NDArray[np.bool_]:
    """One image of each source, drawn at random: (N,) bool, all True where no source repeats."""
    check_draw(None, seed, "")
    seen: set[Source] = set()
    mask = np.zeros(len(sources), dtype=np.bool_)
    for row in np.random.default_rng([seed, _SINGLE]).permutation(len(sources)).tolist():
        mask[row] = sources[row] not in seen
        seen.add(sources[row])
    return mask


def draw(sources: Sequence[Source], fraction: float, seed: int, part: str = "report") -> set[Source]:
    """Draws the sources of one part; the others are left for the rest.

    Args:
        sources: Of the clean images.
        fraction: Share of the sources that are drawn, between 0 and 1.
        seed: Of the draw; what is drawn depends on it, on the part and on the sources only.
        part: `report` or `fit`.

    Raises:
        InputError: A fraction or a seed out of range, or a part without an image.
    """
    check_draw(fraction, seed, part)
    unique: list[Any] = sorted(set(sources), key=lambda source: (type(source).__name__, source))
    count = round(fraction * len(unique))
    if not 0 < count < len(unique):
        raise InputError(
            f"clean images: expected enough for a threshold and a {part} part, found {len(unique)} different ones"
        )
    stream: int | list[int] = seed if part == "report" else [seed, _FIT]
    order = np.random.default_rng(stream).permutation(len(unique))
    return {unique[index] for index in order[:count]}


def check_draw(fraction: float | None, seed: int, part: str) -> None:
    """Raises unless the seed is at least 0, and the fraction, where there is one, between 0 and 1."""
    if seed < 0:
        raise SettingError(f"seed: expected at least 0, found {seed}")
    if fraction is not None and not 0 < fraction < 1:
        raise SettingError(f"{part} fraction: expected a number between 0 and 1, found {fraction}")


def pixel_digests(images: Images) -> NDArray[np.uint8]:
    """A SHA-256 of each image's pixels as floats: (N, 32) uint8, the same for an image in bytes and in floats."""
    digests = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in as_floats(images)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(images), 32)
