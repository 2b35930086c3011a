"""Scores of clean images above the axis and of attacked ones below it, so that neither hides the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from detector.page.frame import Frame
from detector.prediction import Floats
from detector.scorescale import Scale, Tick
from detector.threshold import Threshold

_FRAME: Final = Frame(width=300, height=200, left=10, right=10, top=24, bottom=40)
_CUT: Final = 4.0
"""The bars at the ends of the axis are cut at a quarter, at most."""
_LETTER: Final = 6.8
"""A generous width of one letter of a tick's name."""

Named = tuple[float, str, str]
"""A tick's place, its name, and which end of the name stands there; no name where there is no room."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Two histograms back to back, each of its own number of images.

    Attributes:
        clean: The upper outline, as a path.
        attacked: The lower one; empty without attacked images.
        axis: Where the two meet.
        limits: Where the lowest and the highest threshold lie.
        ticks: Of the scores.
    """

    frame: ClassVar[Frame] = _FRAME

    clean: str
    attacked: str
    axis: float
    limits: tuple[float, float]
    ticks: Sequence[Named]


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """What the histograms of a page share, so that they can be compared.

    Attributes:
        scale: Of the scores.
        threshold: What the scores are compared with.
        clean: (BINS,) share of the clean images in each bin.
        attacks: The same of each attack.
    """

    scale: Scale
    threshold: Threshold
    clean: Floats
    attacks: Sequence[Floats]

    @classmethod
    def of(cls, scale: Scale, threshold: Threshold, clean: Floats, attacks: Sequence[Floats]) -> Self:
        """From the scores, each (n,)."""
        shares = [_shares(scale, scores) for scores in attacks]
        return cls(scale=scale, threshold=threshold, clean=_shares(scale, clean), attacks=shares)

    def drawn(self) -> list[Histogram]:
        """One for each attack; without attacks one of the clean images alone."""
        room = (_FRAME.base - _FRAME.top) / (2 if self.attacks else 1)
        axis = _FRAME.top + room
        every = np.stack([self.clean, *self.attacks])
        # What is drawn at the ends may be most of an attack; it may be cut, for the rest to be seen.
        unit = room / max(every[:, 1:-1].max(), every.max() / _CUT)
        limits = np.array(self.threshold.by_class or [self.threshold.overall], dtype=np.float64)
        places = self._across(self.scale.place(limits))
        lower: Sequence[Floats | None] = self.attacks or [None]
        return [
            Histogram(
                clean=_outline(axis, axis - np.minimum(self.clean * unit, room)),
                attacked="" if shares is None else _outline(axis, axis + np.minimum(shares * unit, room)),
                axis=axis,
                limits=(float(places.min()), float(places.max())),
                ticks=_roomy([(float(self._across(np.array(at))), name) for at, name in self.scale.ticks()]),
            )
            for shares in lower
        ]

    def _across(self, positions: Floats) -> Floats:
        """Positions on the scale to places."""
        return _FRAME.across((positions - self.scale.low) / (self.scale.high - self.scale.low))


def _shares(scale: Scale, scores: Floats) -> Floats:
    """The share of the scores in each bin."""
    counts, _ = np.histogram(scale.place(scores), bins=scale.edges)
    return np.asarray(counts / len(scores))


def _outline(axis: float, ends: Floats) -> str:
    """Bars from the axis to their ends, as one closed path."""
    edges = _FRAME.across(np.linspace(0, 1, len(ends) + 1)).tolist()
    steps = [f"V{end:.1f}H{right:.2f}" for end, right in zip(ends.tolist(), edges[1:], strict=True)]
    return f"M{edges[0]:.2f} {axis:.1f}{''.join(steps)}V{axis:.1f}Z"


def _roomy(ticks: Sequence[Tick]) -> list[Named]:
    """Ticks with the names that do not run into each other: the outermost ones, and what fits between."""
    named: list[Named] = []
    last_left = ticks[-1][0] - _LETTER * len(ticks[-1][1])
    taken = 0.0
    for number, (at, name) in enumerate(ticks):
        width = _LETTER * len(name)
        if number == len(ticks) - 1:
            named.append((at, name, "end"))
        elif number == 0:
            named.append((at, name, "start"))
            taken = at + width
        elif at - width / 2 > taken and at + width / 2 < last_left:
            named.append((at, name, "middle"))
            taken = at + width / 2
        else:
            named.append((at, "", "middle"))
    return named
