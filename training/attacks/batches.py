"""Batches that shrink: images that are done leave, so that nothing is computed for them any more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def any_batch_size() -> Iterator[None]:
    """Leaves cuDNN to choose its kernels by rule: to time them for every new size would take longer than it saves."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
