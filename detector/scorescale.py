"""Where a score is drawn: suspicious on the left, honest on the right, and no score outside the plot."""

from abc import ABC, abstractmethod
from typing import Final

import numpy as np

from detector.prediction import Floats
from detector.scores import DEFAULT_SCORE

BINS: Final = 60
# Log diversity runs from 0 down to minus infinity, and clean images lie close to 0: it is drawn as
# powers of ten. What lies beyond the ends is drawn at the ends.
LEAST: Final = 1e-4
MOST: Final = 1e2
_POWERS: Final = range(2, -5, -1)  # of the two and between, from the suspicious end

Tick = tuple[float, str]
"""A position, and the score there."""


class Scale(ABC):
    """A scale for one score.

    Attributes:
        low: The position of its left end.
        high: The position of its right end.
    """

    low: float
    high: float

    @abstractmethod
    def place(self, scores: Floats) -> Floats:
        """Positions of scores, (n,) to (n,), from `low` to `high`; what lies beyond an end is placed at it."""

    @abstractmethod
    def ticks(self) -> list[Tick]:
        """A few round scores, from left to right."""

    @property
    def edges(self) -> Floats:
        """The edges of a histogram's bins, (BINS + 1,)."""
        return np.linspace(self.low, self.high, BINS + 1)


def scale_for(score: str, shown: Floats) -> Scale:
    """The scale for the scores that are to be drawn on it, (n,)."""
    return Powers() if score == DEFAULT_SCORE else Linear(shown)


class Powers(Scale):
    """Negated powers of ten, for log diversity: from -100 and below to -0.0001 and above."""

    low = -float(_POWERS[0])
    high = -float(_POWERS[-1])

    def place(self, scores: Floats) -> Floats:
        """Minus the logarithm of what a score lies below 0."""
        # Clipped again: the logarithm of an end may come out a hair beyond it.
        return np.clip(-np.log10(np.clip(-scores, LEAST, MOST)), self.low, self.high)

    def ticks(self) -> list[Tick]:
        """The powers, and at the ends that scores beyond are drawn there."""
        names = [f"{-(10.0**power):g}" for power in _POWERS]
        names[0], names[-1] = f"\u2264 {names[0]}", f"\u2265 {names[-1]}"
        return [(-float(power), name) for power, name in zip(_POWERS, names, strict=True)]


class Linear(Scale):
    """A plain scale that holds 98 % of the scores."""

    def __init__(self, shown: Floats) -> None:
        finite = shown[np.isfinite(shown)]
        low, high = np.quantile(finite, (0.01, 0.99)).tolist() if len(finite) else (0.0, 0.0)
        self.low, self.high = (low, high) if low < high else (low - 1, low + 1)

    def place(self, scores: Floats) -> Floats:
        """The score itself."""
        return np.clip(scores, self.low, self.high)

    def ticks(self) -> list[Tick]:
        """Round scores."""
        from matplotlib.ticker import MaxNLocator  # takes a second to import

        found = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        return [(float(value), f"{value:g}") for value in found if self.low <= value <= self.high]
