"""How exactly a GPU computes: float32 as it is everywhere else, where an answer counts and not only its direction."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions without TF32, which keeps 10 of float32's 23 bits and by which a close answer may turn round.

    cuDNN chooses its kernels by rule meanwhile, see `training.attacks.batches`. On a CPU nothing changes.
    """
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield
