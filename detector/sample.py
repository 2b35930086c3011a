"""Some images at random."""

from dataclasses import replace

import numpy as np

from detector.errors import InputError
from detector.imageset import ImageSet


def sample(images: ImageSet, n: int | None, *, seed: int = 0) -> ImageSet:
    """Returns n images at random, in their old order; all of them where n is None.

    Raises:
        InputError: n below 1, or more than there are.
    """
    if n is None:
        return images
    if not 1 <= n <= len(images):
        raise InputError(f"n: expected 1 to {len(images)} images, found {n}")
    rows = np.random.default_rng([seed]).permutation(len(images))[:n]
    chosen = np.zeros(len(images), dtype=np.bool_)
    chosen[rows] = True
    return replace(images.only(chosen), info={**images.info, "sample": {"n": n, "seed": seed}})
