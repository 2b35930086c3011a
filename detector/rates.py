"""Shares of inputs, with exact intervals; ROC and AUC, on ranks.

Scores may be minus infinity, which scikit-learn's curves refuse; the order is all they need, so
they are given ranks. Attacked inputs are the positives; LOWER scores are more suspicious. An AUC
below 0.5 is reported as what it is.

SciPy and scikit-learn are imported where something is estimated: they take over a second, and who
opens a bundle only reads what was estimated before.
"""

from typing import Final

import numpy as np

from detector.document import Record
from detector.errors import InputError
from detector.prediction import Floats

CONFIDENCE: Final = 0.95


class Rate(Record):
    """A share of some inputs, with the exact (Clopper-Pearson) 95 % interval.

    Attributes:
        count: Inputs that had it.
        n: Inputs.
        rate: count / n.
        low: Lower end of the interval.
        high: Upper end.
    """

    count: int
    n: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: np.ndarray) -> "Rate":
        """The share of True in a non-empty array of booleans."""
        count, n = int(np.count_nonzero(hits)), len(hits)
        if n == 0:
            raise InputError("rate: expected at least one input, found none")
        from scipy.stats import binomtest

        interval = binomtest(count, n).proportion_ci(CONFIDENCE, method="exact")
        return cls(count=count, n=n, rate=count / n, low=float(interval.low), high=float(interval.high))

    def __str__(self) -> str:
        """For tables: `4.2 % (2.3 to 6.9)`."""
        return f"{100 * self.rate:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


class Auc(Record):
    """Area under the ROC curve with a 95 % interval.

    Attributes:
        value: The probability that an attacked input scores below a clean one, ties counted half.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, clean: Floats, attacked: Floats) -> "Auc":
        """The AUC of some scores, with Newcombe's interval.

        Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic, part 2", Statistics in Medicine 2006, method 5: the areas which the observed one
        does not contradict. Unlike DeLong's it does not shrink to a point at an AUC of 1.
        """
        if len(clean) == 0 or len(attacked) == 0:
            raise InputError(f"AUC: expected clean and attacked inputs, found {len(clean)} and {len(attacked)}")
        from scipy.optimize import brentq
        from scipy.stats import norm
        from sklearn.metrics import roc_auc_score

        suspicion, attack = _suspicion(clean, attacked)
        value = float(roc_auc_score(attack, suspicion))
        half = float(norm.ppf(0.5 + CONFIDENCE / 2))

        def contradiction(area: float, side: int) -> float:
            return side * (area - value) - half * _deviation(area, len(clean), len(attacked))

        # At 0 and 1 the deviation vanishes, and with it the contradiction: keep off that root.
        low = brentq(contradiction, 0, min(value, 1 - 1e-12), args=(-1,)) if value > 0 else 0.0
        high = brentq(contradiction, max(value, 1e-12), 1, args=(1,)) if value < 1 else 1.0
        return cls(value=value, low=float(low), high=float(high))

    def __str__(self) -> str:
        """For tables: `0.951 (0.932 to 0.964)`."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def _deviation(area: float, clean: int, attacked: int) -> float:
    """Standard deviation of an observed area, with the two counts evened out (method 5)."""
    even = (clean + attacked) / 2 - 1
    spread = 1 + even * ((1 - area) / (2 - area) + area / (1 + area))
    return float(np.sqrt(area * (1 - area) * spread / (clean * attacked)))


def curve(clean: Floats, attacked: Floats) -> tuple[Floats, Floats]:
    """The ROC curve: false and true positive rates, each (M,), from (0, 0) to (1, 1)."""
    from sklearn.metrics import roc_curve

    suspicion, attack = _suspicion(clean, attacked)
    fpr, tpr, _ = roc_curve(attack, suspicion)
    return fpr, tpr


def tpr_at(clean: Floats, attacked: Floats, fpr: float) -> float:
    """The largest share of attacked inputs flagged where at most a share `fpr` of the clean ones is.

    A maximum over real points of the ROC curve: with n clean inputs, an `fpr` below 1 / n allows none.
    """
    if len(clean) == 0 or len(attacked) == 0:
        raise InputError(f"TPR: expected clean and attacked inputs, found {len(clean)} and {len(attacked)}")
    allowed = int(fpr * len(clean) * (1 + 1e-12))  # 0.05 times 1000 is a hair below 50
    if allowed >= len(clean):
        return 1.0
    return float((attacked < np.partition(clean, allowed)[allowed]).mean())


def _suspicion(clean: Floats, attacked: Floats) -> tuple[Floats, np.ndarray]:
    """Ranks that grow with suspicion, and which inputs are attacked."""
    from scipy.stats import rankdata

    scores = np.concatenate([clean, attacked])
    if np.isnan(scores).any():
        raise InputError("scores: expected numbers, found nan")
    return -rankdata(scores), np.arange(len(scores)) >= len(clean)
