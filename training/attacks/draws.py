"""Uniform random numbers that belong to an image, as tensors; see `detector.draws`."""

import math

import numpy as np
import torch
from torch import Tensor

from detector.draws import hashed
from detector.prediction import Ints


def uniform(images: Tensor, rows: Ints, *, seed: int, purpose: str) -> Tensor:
    """Numbers in [-1, 1) of the shape of images.

    Args:
        images: (N, C, H, W), whose shape, dtype and device the result has.
        rows: (N,), what an image's numbers are keyed by, each at least 0.
        seed: Of the attack.
        purpose: What they are for; two purposes never share draws.
    """
    keys = hashed(rows, np.arange(math.prod(images.shape[1:])), seed=seed, purpose=purpose)
    # 24 bits: as many as a float32 has, so that none is rounded up to 1.
    numbers = (keys >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    return torch.from_numpy(numbers.reshape(images.shape)).to(images)
