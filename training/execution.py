"""How torch runs here: deterministic, on a stated number of threads, leaving no trace behind.

One thread is the default. Small networks gain little from a second, which on a busy machine waits for
its turn at every layer and makes training several times slower; and sums are added up in another order
on another number of threads, so that one thread gives the same bits on every number of cores.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from detector.errors import InputError

THREADS: Final = 1


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Deterministic kernels on so many CPU threads; torch's state is given back as it was.

    Raises:
        InputError: threads below 1.
    """
    if threads < 1:
        raise InputError(f"threads: expected at least 1, found {threads}")
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    threads_before = torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.set_num_threads(threads_before)
