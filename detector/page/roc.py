"""ROC curves as paths: the false alarms on a logarithmic axis, where services live."""

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from detector.page.frame import Frame, thinned
from detector.prediction import Floats
from detector.rates import curve
from detector.scorescale import Tick

_FRAME: Final = Frame(width=300, height=240, left=42, right=10, top=24, bottom=40)


@dataclass(frozen=True, kw_only=True)
class Roc:
    """The axes that all curves share; x is the share of clean images flagged, y of attacked ones.

    Attributes:
        floor: The left end: half of what one image is, and what is 0 is drawn there.
    """

    frame: ClassVar[Frame] = _FRAME

    floor: float

    @classmethod
    def beside(cls, clean: Floats) -> "Roc":
        """For the scores of the clean images, (n,)."""
        return cls(floor=0.5 / len(clean))

    def path(self, clean: Floats, attacked: Floats) -> str:
        """The curve as steps, from the scores of both; of bounded length for any number of images."""
        fpr, tpr = curve(clean, attacked)
        return thinned(self._across(fpr), self.frame.down(tpr))

    @property
    def chance(self) -> str:
        """The curve of a score that tells nothing."""
        shares = np.geomspace(self.floor, 1, 60)
        points = zip(self._across(shares).tolist(), self.frame.down(shares).tolist(), strict=True)
        return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)

    def at(self, share: float) -> float:
        """Where a share of clean images lies."""
        return float(self._across(np.array([share]))[0])

    @property
    def ticks(self) -> list[Tick]:
        """Powers of ten."""
        powers = range(int(np.ceil(np.log10(self.floor))), 1)
        return [(self.at(10.0**power), f"{10.0 ** (power + 2):g} %") for power in powers]

    def _across(self, shares: Floats) -> Floats:
        """Shares to horizontal places."""
        return self.frame.across(np.log(np.maximum(shares, self.floor) / self.floor) / -np.log(self.floor))
