"""Whether the clean scores have moved since the calibration, by an exact two-sample test, and how far."""

import warnings
from typing import Self

import numpy as np

from detector.document import Record
from detector.errors import InputError
from detector.prediction import Floats
from detector.rates import Auc

# Above so many scores the test's exact null distribution takes too long, and the limit is as good.
_EXACT = 10_000


class Movement(Record):
    """Today's scores beside those of the calibration.

    Attributes:
        then: Number of scores behind the calibration's threshold.
        now: Number of today's.
        statistic: Kolmogorov-Smirnov: the largest gap between the two cumulative distributions.
        p_value: Probability of so large a gap, or a larger one, where nothing has moved; with ties
            it is larger than that, never smaller.
        exact: Whether the p-value is; with more than 10,000 scores it is the limit's.
        auc: Effect size: the probability that one of today's scores is lower, more suspicious, than
            one of the calibration's; 0.5 where neither tends to be. Cliff's delta is 2 auc - 1.
        delta: Probability with which scores that have not moved are said to have.
        moved: `p_value <= delta`.
    """

    then: int
    now: int
    statistic: float
    p_value: float
    exact: bool
    auc: Auc
    delta: float
    moved: bool

    @classmethod
    def of(cls, then: Floats, now: Floats, delta: float = 0.05) -> Self:
        """Compares two samples of scores, minus infinity among them or not.

        Raises:
            InputError: No scores, or one that is not a number.
        """
        if not len(then) or not len(now):
            raise InputError(f"scores: expected some of then and of now, found {len(then)} and {len(now)}")
        auc = Auc.of(then, now)
        statistic, p_value, exact = _kolmogorov_smirnov(then, now)
        return cls(
            then=len(then),
            now=len(now),
            statistic=statistic,
            p_value=p_value,
            exact=exact,
            auc=auc,
            delta=delta,
            moved=p_value <= delta,
        )

    @property
    def direction(self) -> str:
        """Where today's scores lie, as far as the effect size tells."""
        if self.auc.low > 0.5:
            return "lower: today's images look more suspicious"
        if self.auc.high < 0.5:
            return "higher: today's images look less suspicious"
        return "neither higher nor lower on the whole; their spread or shape has changed"


def _kolmogorov_smirnov(then: Floats, now: Floats) -> tuple[float, float, bool]:
    """Statistic, two-sided p-value, and whether it is exact; on ranks, since differences of infinities are none."""
    from scipy.stats import ks_2samp, rankdata

    ranks = rankdata(np.concatenate([then, now]))
    exact = max(len(then), len(now)) <= _EXACT
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)  # SciPy turns to the limit where the exact sum overflows
        found = ks_2samp(ranks[: len(then)], ranks[len(then) :], method="exact" if exact else "asymp")
    return float(found.statistic), float(found.pvalue), exact and not caught
