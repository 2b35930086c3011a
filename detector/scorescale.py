"""Where a score is drawn: suspicious on the left, honest on the right, and no score outside the plot."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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

_MARGIN: Final = 0.1  # of a linear scale, left of the threshold
_NAME: Final = 0.15  # and at its ends, for their names

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


def scale_for(score: str, clean: Floats, attacked: Sequence[Floats] = (), limits: Floats | None = None) -> Scale:
    """The scale for what is to be drawn on it.

    Args:
        score: Its name.
        clean: (n,) scores of clean images.
        attacked: Those of each attack.
        limits: The threshold, or those of the classes.
    """
    if score == DEFAULT_SCORE:
        return Powers()
    return Linear(clean, np.concatenate([np.empty(0), *attacked]), np.empty(0) if limits is None else limits)


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
    """A plain scale that gives the clean scores room; what lies beyond its ends is drawn at them, and they say so.

    Scores of attacked images may lie a hundred times as far from the clean ones as those do from each other: on a scale
    that held them all, clean images and the threshold would share one bin. So it ends on the left where the threshold
    and nearly all clean scores are in, and on the right a little beyond the clean ones.
    """

    def __init__(self, clean: Floats, attacked: Floats, limits: Floats) -> None:
        shown = np.concatenate([clean, attacked])
        clean, inside, limits = (values[np.isfinite(values)] for values in (clean, shown, limits))
        if not len(clean):
            clean = inside if len(inside) else np.zeros(1)
        first, quarter, three_quarters, last = np.quantile(clean, (0.05, 0.25, 0.75, 0.99)).tolist()
        high = float(np.quantile(inside, 0.99)) if len(inside) else last
        high = min(high, last + three_quarters - quarter)
        low, room = first, _MARGIN * (high - first)
        if len(limits):
            low, high = min(low, limits.min() - room), max(high, limits.max() + room)
        if not low < high:
            low, high = low - 1, low + 1
        grain = 10.0 ** np.floor(np.log10(high - low) - 1)
        # As text has them, so that a name is where it says.
        self.low, self.high = (float(f"{n * grain:.12g}") for n in (np.floor(low / grain), np.ceil(high / grain)))
        self._beyond = (bool((shown < self.low).any()), bool((shown > self.high).any()))

    def place(self, scores: Floats) -> Floats:
        """The score itself."""
        return np.clip(scores, self.low, self.high)

    def ticks(self) -> list[Tick]:
        """Both ends, with a sign where scores beyond are drawn there, and a few round scores between them."""
        from matplotlib.ticker import MaxNLocator  # takes a second to import

        room = _NAME * (self.high - self.low)
        found = map(float, MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(self.low, self.high))
        between = [(value, f"{value:g}") for value in found if self.low + room < value < self.high - room]
        left, right = ("\u2264 " * self._beyond[0], "\u2265 " * self._beyond[1])
        return [(self.low, f"{left}{self.low:g}"), *between, (self.high, f"{right}{self.high:g}")]
