"""Random numbers that belong to an image, all images at once, and without a generator for each.

Each number is a hash of (seed, purpose, row, place), so that it does not depend on the images beside it, on the
size of the batch, or on what was drawn before it. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast Splittable Pseudorandom Number Generators", 2014), applied to one key after another.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.prediction import Floats, Ints

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hashed(rows: Ints, places: Ints, *, seed: int, purpose: str) -> NDArray[np.uint64]:
    """Random 64-bit numbers.

    Args:
        rows: (N,), what an image's numbers are keyed by, each at least 0.
        places: (M,), which of an image's numbers these are, each at least 0.
        seed: At least 0.
        purpose: What they are for; two purposes never share draws.

    Returns:
        (N, M) uint64.
    """
    start = np.random.default_rng([seed, *purpose.encode()]).integers(2**64, dtype=np.uint64)
    return _mixed(_mixed(np.asarray(rows).astype(np.uint64) + start)[:, None] + np.asarray(places).astype(np.uint64))


def units(rows: Ints, places: Ints, *, seed: int, purpose: str) -> Floats:
    """Uniform numbers in [0, 1): (N, M) float64; see `hashed`."""
    # 53 bits: as many as a float64 has, so that none is rounded up to 1.
    return np.asarray((hashed(rows, places, seed=seed, purpose=purpose) >> np.uint64(11)).astype(np.float64) / 2**53)


def _mixed(keys: NDArray[Any]) -> NDArray[np.uint64]:
    """SplitMix64's step and finaliser; wraps around, as it should."""
    with np.errstate(over="ignore"):
        keys = keys + _GOLDEN
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(keys ^ (keys >> np.uint64(31)))
