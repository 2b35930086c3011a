"""A figure and how sure we are of it, over seeds or over test images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.rates import CONFIDENCE, Rate


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with a 95 % interval.

    Attributes:
        value: The figure.
        low: Lower end; None where there is no interval.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of_seeds(cls, values: Sequence[float], *, least: float, most: float) -> "Estimate":
        """The mean over seeds with Student's t interval, which says what other seeds would give.

        One seed, or a figure that is infinite, has no interval.

        Args:
            values: One for each seed.
            least: The smallest value there can be, where the interval ends if it went further.
            most: The largest.
        """
        mean = float(np.mean(values))
        if len(values) == 1 or not np.isfinite(values).all():
            return cls(value=mean)
        from scipy.stats import t

        half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        return cls(value=mean, low=max(mean - half, least), high=min(mean + half, most))

    @classmethod
    def of_rates(cls, rates: Sequence[Rate]) -> "Estimate":
        """Shares in %: over seeds, or for one seed with its exact interval over test images."""
        if len(rates) == 1:
            return cls(value=100 * rates[0].rate, low=100 * rates[0].low, high=100 * rates[0].high)
        return cls.of_seeds([100 * rate.rate for rate in rates], least=0, most=100)

    def text(self, form: str) -> str:
        """`6.56 (6.08 to 7.06)`, each number in a form such as `.2f`."""
        if self.low is None or self.high is None:
            return format(self.value, form)
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"
