"""A setting of the paper's experiments: the weights of the regulariser, and what they are called."""

import re
from dataclasses import dataclass

from detector.errors import SettingError

_NAME = re.compile(r"adp-(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True, order=True)
class Setting:
    """ADP_{alpha,beta}; the baseline where both are 0.

    Attributes:
        alpha: Weight of the entropy of the ensemble's prediction in Eq. (5).
        beta: Weight of the log diversity in Eq. (5).
    """

    alpha: float
    beta: float

    @classmethod
    def parse(cls, name: str) -> "Setting":
        """Reads a name, `baseline` or for example `adp-2-0.5`.

        Raises:
            InputError: Another form.
        """
        if name == "baseline":
            return cls(0.0, 0.0)
        found = _NAME.fullmatch(name)
        if found is None:
            raise SettingError(f"setting: expected baseline or adp-ALPHA-BETA such as adp-2-0.5, found {name!r}")
        return cls(float(found[1]), float(found[2]))

    @property
    def weights(self) -> tuple[float, float]:
        """(alpha, beta)."""
        return self.alpha, self.beta

    @property
    def name(self) -> str:
        """For folders and commands; `parse` reads it."""
        return "baseline" if self.weights == (0, 0) else f"adp-{self.alpha:g}-{self.beta:g}"

    @property
    def markdown(self) -> str:
        """For pages."""
        return "Baseline" if self.weights == (0, 0) else f"ADP<sub>{self.alpha:g},{self.beta:g}</sub>"

    @property
    def label(self) -> str:
        """For figures, in matplotlib's mathematical notation."""
        return "Baseline" if self.weights == (0, 0) else f"ADP$_{{{self.alpha:g},\\,{self.beta:g}}}$"
