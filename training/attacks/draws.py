"""Uniform random numbers that belong to an image, all images at once.

Each number is a hash of (seed, purpose, row, place), so that it does not depend on the images beside it, on the
size of the batch, or on the device, and no loop over images is needed. The hash is the finaliser of SplitMix64
(Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014), applied to one key after another.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.prediction import Ints
from training.seeds import generator

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniform(images: Tensor, rows: Ints, *, seed: int, purpose: str) -> Tensor:
    """Numbers in [-1, 1) of the shape of images.

    Args:
        images: (N, C, H, W), whose shape, dtype and device the result has.
        rows: (N,), what an image's numbers are keyed by, each at least 0.
        seed: Of the attack.
        purpose: What they are for; two purposes never share draws.
    """
    shape = tuple(images.shape[1:])
    start = np.uint64(generator(seed, purpose).integers(2**64, dtype=np.uint64))
    keys = _mixed(
        _mixed(np.asarray(rows).astype(np.uint64) + start)[:, None] + np.arange(math.prod(shape), dtype=np.uint64)
    )
    # 24 bits: as many as a float32 has, so that none is rounded up to 1.
    numbers = (keys >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(numbers.reshape(len(rows), *shape)).to(images)


def _mixed(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """SplitMix64's step and finaliser; wraps around, as it should."""
    with np.errstate(over="ignore"):
        keys = keys + _GOLDEN
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(keys ^ (keys >> np.uint64(31)))
