"""Parts of a calibration, disjoint by source image.

An attacked image and the clean one it came from are one source; a threshold chosen on either is
never reported on the other. Sources are known by `source_index` where every set has it, and else by
the pixels of the clean image.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats

Source = int | bytes


class Sources:
    """Tells which images of some sets come from one source.

    Args:
        clean: Sets of clean images.
        attacked: Sets of attacked images, by name.

    Raises:
        InputError: An attacked set from which no source can be told.
    """

    def __init__(self, clean: Iterable[ImageSet], attacked: Iterable[tuple[str, ImageSet]]) -> None:
        clean, attacked = list(clean), list(attacked)
        self._by_index = all(images.source_index is not None for images in [*clean, *(s for _, s in attacked)])
        for name, images in attacked:
            if not self._by_index and images.clean is None:
                raise InputError(
                    f"{name}: expected the array 'clean', or 'source_index' in every file, so that the images behind "
                    "the threshold and behind the report can be told apart; found neither. 'clean' holds the images as "
                    "they were before the attack, 'source_index' the row each came from"
                )

    def of(self, images: ImageSet) -> list[Source]:
        """The source of each image."""
        if self._by_index and images.source_index is not None:
            return [int(index) for index in images.source_index]
        clean = as_floats(images.images if images.clean is None else images.clean)
        return [hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in clean]

    def among(self, images: ImageSet, chosen: set[Source]) -> NDArray[np.bool_]:
        """Which images come from the chosen sources: (N,) bool."""
        return np.array([source in chosen for source in self.of(images)], dtype=np.bool_)

    def draw(self, clean: ImageSet, fraction: float, seed: int) -> set[Source]:
        """Draws the sources that report; the others choose the threshold.

        Args:
            clean: The clean images.
            fraction: Share of the sources that report, between 0 and 1.
            seed: Of the draw; what is drawn depends on it and on the sources only.

        Raises:
            InputError: A fraction or a seed out of range, or a part without an image.
        """
        if seed < 0:
            raise InputError(f"seed: expected at least 0, found {seed}")
        if not 0 < fraction < 1:
            raise InputError(f"report fraction: expected a number between 0 and 1, found {fraction}")
        unique = sorted(set(self.of(clean)), key=lambda source: (isinstance(source, bytes), source))
        count = round(fraction * len(unique))
        if not 0 < count < len(unique):
            raise InputError(
                f"clean images: expected enough for a threshold and a report part, found {len(unique)} different ones"
            )
        order = np.random.default_rng(seed).permutation(len(unique))
        return {unique[index] for index in order[:count]}
