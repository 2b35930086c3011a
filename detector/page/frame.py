"""A plot's frame: where shares of its width and height lie, in units of its own that a browser scales."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.prediction import Floats

_GRAIN: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A drawing and the margins around the plot in it.

    Attributes:
        width: Of the drawing.
        height: Of the drawing.
        left: Margin.
        right: Margin.
        top: Margin.
        bottom: Margin.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    @property
    def end(self) -> int:
        """The right edge of the plot."""
        return self.width - self.right

    @property
    def base(self) -> int:
        """The lower edge of the plot."""
        return self.height - self.bottom

    def across(self, shares: Floats) -> Floats:
        """Shares of the plot's width, from the left, to places."""
        return self.left + shares * (self.end - self.left)

    def down(self, shares: Floats) -> Floats:
        """Shares of the plot's height, from below, to places."""
        return self.base - shares * (self.base - self.top)


def thinned(x: Floats, y: Floats) -> str:
    """A rising step curve through places (n,) as a path, without the points that no eye could tell apart.

    Both coordinates are rounded to half a unit. Since the curve never turns back, no path is longer
    than the frame's width and height are in such halves, however many points there are.
    """
    places = np.column_stack([x, y]) / _GRAIN
    places = places.round() * _GRAIN
    moved = np.ones(len(places), dtype=np.bool_)
    moved[1:] = (places[1:] != places[:-1]).any(axis=1)
    (first_x, first_y), *rest = places[moved].tolist()
    steps = [f"M{first_x:g} {first_y:g}"]
    for to_x, to_y in rest:
        steps += [f"H{to_x:g}"] * (to_x != first_x) + [f"V{to_y:g}"] * (to_y != first_y)
        first_x, first_y = to_x, to_y
    return "".join(steps)
