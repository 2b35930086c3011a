"""When calls arrive that do not wait for one another: a Poisson process."""

from collections.abc import Iterator
from typing import Final

import numpy as np

_CHUNK: Final = 1024


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Arrival times without end, in seconds from the start, with exponential gaps of mean 1 / `rate`.

    Args:
        rate: Arrivals a second, on average.
        seed: The same seed gives the same times.
    """
    rng = np.random.default_rng(seed)
    last_s = 0.0
    while True:
        times = last_s + np.cumsum(rng.exponential(1 / rate, _CHUNK))
        last_s = float(times[-1])
        yield from times.tolist()
