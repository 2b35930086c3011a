"""What an ensemble's logits say, computed once for everything that asks: verdicts and scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.diversity import log_diversity_of
from detector.prediction import Floats, Ints, check_logits

_BLOCK: Final = 1 << 20  # numbers
_LEAST: Final = np.nextafter(0.0, 1.0)
_SHORT: Final = 64  # classes


@dataclass(frozen=True, kw_only=True)
class Exponentials:
    """exp of values over their last axis, the largest taken off first.

    Attributes:
        tops: (...) the largest.
        gaps: (..., L) how far the values lie below it.
        values: (..., L) the exponentials, the largest of which is 1.
        sums: (...) of those.
    """

    tops: Floats
    gaps: Floats
    values: Floats
    sums: Floats

    @classmethod
    def of(cls, values: Floats) -> Self:
        """From values (..., L), which may be minus infinity, though not all."""
        # The largest along an axis is quickest where others are longer: with few classes a copy pays.
        short = values.shape[-1] < _SHORT
        tops = np.ascontiguousarray(np.moveaxis(values, -1, 0)).max(axis=0) if short else values.max(axis=-1)
        gaps = values - tops[..., None]
        found = np.exp(gaps)
        return cls(tops=tops, gaps=gaps, values=found, sums=found.sum(axis=-1))

    @property
    def logs(self) -> Floats:
        """(...) the log of the sum of the exponentials of the values as they came."""
        return np.asarray(np.log(self.sums) + self.tops)


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
    def _exponentials(self) -> Exponentials:
        """Of all classes."""
        return Exponentials.of(self.logits.astype(np.float64))

    @cached_property
    def member_probabilities(self) -> Floats:
        """Each member's softmax, (N, K, L): `detector.prediction.member_probabilities`, to the bit."""
        return np.asarray(self._exponentials.values / self._exponentials.sums[..., None])

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
        return log_diversity_of(self.rest_exponentials.values)

    @cached_property
    def free_energies(self) -> Floats:
        """Log of the sum of each member's exponentiated logits, (N, K)."""
        return self._exponentials.logs

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
    def rest_exponentials(self) -> Exponentials:
        """Of all classes but the ensemble's."""
        return Exponentials.of(self.rest)

    @cached_property
    def rest_energies(self) -> Floats:
        """Log of the sum of each member's exponentiated logits without the ensemble's class, (N, K)."""
        return self.rest_exponentials.logs

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
        ratio = self.member_probabilities / np.maximum(mean, _LEAST)  # where F_j is 0, so is what it is multiplied by
        return np.asarray((mean * _divergence(ratio)).sum(axis=2).sum(axis=1) / self.logits.shape[1])


def in_blocks(logits: NDArray[np.floating[Any]]) -> Iterator[Outputs]:
    """The outputs of any number of images, so many at a time that memory stays bounded."""
    rows = max(1, _BLOCK // (logits.shape[1] * logits.shape[2]))
    for start in range(0, len(logits), rows):
        yield Outputs(logits[start : start + rows])


def log_sum_exp(values: Floats) -> Floats:
    """Log of the sum of exponentials over the last axis, which is dropped."""
    return Exponentials.of(values).logs


def _divergence(ratio: Floats) -> Floats:
    """h(r) = r log r - r + 1, at least 0; by its series near 1, where it cancels."""
    gap = ratio - 1.0
    found = ratio * np.log(np.maximum(ratio, _LEAST)) - gap
    cancels = np.abs(gap) < 1e-3
    near = gap[cancels]
    found[cancels] = near * near * (1 / 2 - near * (1 / 6 - near * (1 / 12 - near / 20)))
    return found
