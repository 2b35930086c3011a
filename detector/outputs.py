"""What an ensemble's logits say, computed once for everything that asks: verdicts and scores."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.diversity import log_diversity_without
from detector.prediction import Floats, Ints, check_logits, member_probabilities

_BLOCK: Final = 1 << 20  # numbers


class Outputs:
    """The logits of N images, with what follows from them. Each image is worked on by itself.

    Args:
        logits: (N, K, L), float32 or float64.

    Attributes:
        logits: The same, checked.

    Raises:
        InputError: See `detector.prediction.check_logits`.
    """

    def __init__(self, logits: ArrayLike) -> None:
        self.logits: NDArray[np.floating[Any]] = check_logits(logits)

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def member_probabilities(self) -> Floats:
        """Each member's softmax, (N, K, L)."""
        return member_probabilities(self.logits)

    @cached_property
    def probabilities(self) -> Floats:
        """The ensemble's prediction, Eq. (1): (N, L)."""
        return np.asarray(self.member_probabilities.mean(axis=1))

    @cached_property
    def labels(self) -> Ints:
        """The ensemble's class, (N,): the argmax of the prediction, the lowest index on ties."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def log_diversity(self) -> Floats:
        """Log diversity without the ensemble's class, (N,)."""
        return log_diversity_without(self.logits, self.labels)

    @cached_property
    def free_energies(self) -> Floats:
        """Log of the sum of each member's exponentiated logits, (N, K)."""
        return log_sum_exp(self.logits.astype(np.float64))

    @cached_property
    def label_logits(self) -> Floats:
        """Each member's logit of the ensemble's class, (N, K) float64."""
        return self.logits[np.arange(len(self)), :, self.labels].astype(np.float64)

    @cached_property
    def rest(self) -> Floats:
        """The logits as float64, (N, K, L), the ensemble's class left out: minus infinity there."""
        others = self.logits.astype(np.float64)
        others[np.arange(len(self)), :, self.labels] = -np.inf
        return others

    @cached_property
    def rest_energies(self) -> Floats:
        """Log of the sum of each member's exponentiated logits without the ensemble's class, (N, K)."""
        return log_sum_exp(self.rest)

    @cached_property
    def log_odds(self) -> Floats:
        """log(p / (1 - p)) of the ensemble's class, (N,).

        1 - p is summed from the other classes in log space, so that it never rounds to 0: p itself
        is 1 from a margin of 37 on.
        """
        members = self.logits.shape[1]
        doubt = log_sum_exp(self.rest_energies - self.free_energies) - np.log(members)
        # At least 1 / L, so that its logarithm loses nothing.
        return np.asarray(np.log(self.probabilities.max(axis=1)) - doubt)

    @cached_property
    def disagreement(self) -> Floats:
        """The members' Jensen-Shannon divergence, Eq. (9), in nats: (N,), 0 to log K.

        Written as a sum of terms none of which is negative, F_j h(F_j^k / F_j) / K with
        h(r) = r log r - r + 1, so that nothing cancels where members are certain.
        """
        mean = self.probabilities[:, None]
        ratio = np.divide(self.member_probabilities, mean, out=np.zeros_like(self.member_probabilities), where=mean > 0)
        return np.asarray((mean * _divergence(ratio)).sum(axis=2).sum(axis=1) / self.logits.shape[1])


def in_blocks(logits: NDArray[np.floating[Any]]) -> Iterator[Outputs]:
    """The outputs of any number of images, so many at a time that memory stays bounded."""
    rows = max(1, _BLOCK // (logits.shape[1] * logits.shape[2]))
    for start in range(0, len(logits), rows):
        yield Outputs(logits[start : start + rows])


def log_sum_exp(values: Floats) -> Floats:
    """Log of the sum of exponentials over the last axis, which is dropped."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0])


def _divergence(ratio: Floats) -> Floats:
    """h(r) = r log r - r + 1, at least 0; by its series near 1, where it cancels."""
    gap = ratio - 1.0
    logs = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
    near = gap * gap * (1 / 2 - gap * (1 / 6 - gap * (1 / 12 - gap / 20)))
    return np.where(np.abs(gap) < 1e-3, near, ratio * logs - gap)
