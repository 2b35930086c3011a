"""Which members have converged, and which epoch is the result: read from what was measured on the validation images.

Functions of the metrics alone, so that a resumed run decides as an unbroken one would.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from training.config import TrainConfig


def converged(metrics: Sequence[Mapping[str, Any]], config: TrainConfig) -> frozenset[int]:
    """The members whose validation loss has not fallen for `patience` epochs: frozen from then on (Algorithm 1).

    Once it has, whatever is measured later does not thaw it: on a GPU the loss of weights that stand still need
    not be the same to the last bit.

    Args:
        metrics: One object for each epoch done, with `member_loss`.
        config: The settings; without patience nobody converges.
    """
    if not config.patience:
        return frozenset()
    losses = [epoch["member_loss"] for epoch in metrics]
    return frozenset(k for k in range(config.members) if _settled([loss[k] for loss in losses], config.patience))


def _settled(losses: Sequence[float], patience: int) -> bool:
    """Whether so many epochs in a row were ever none the lowest so far."""
    lowest, since = math.inf, 0
    for loss in losses:
        lowest, since = (loss, 0) if loss < lowest else (lowest, since + 1)
        if since >= patience:
            return True
    return False


def kept_epoch(metrics: Sequence[Mapping[str, Any]], config: TrainConfig) -> int:
    """The epoch, from 1, whose weights are the result: the last, or the last of those most accurate on validation."""
    if config.keep == "last":
        return len(metrics)
    best = max(epoch["accuracy"] for epoch in metrics)
    return max(number for number, epoch in enumerate(metrics, start=1) if epoch["accuracy"] == best)
