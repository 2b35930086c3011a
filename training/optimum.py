"""Where ADP training leads, Theorem 2: from alpha to the confidence of the optimum, and back.

With beta = 0 the minimum of Eq. (6) gives every member the same confidence F in the true class, and the ensemble
spreads the rest evenly, as label smoothing with 1 - F does. Eq. (7) ties it to alpha:

    1 / F = (alpha / K) log(F (L - 1) / (1 - F))

F log(F (L - 1) / (1 - F)) is at most 0 up to F = 1 / L, and from there it rises without bound, since its slope
log(F (L - 1) / (1 - F)) + 1 / (1 - F) is positive: each alpha > 0 has exactly one F, and each F above 1 / L exactly
one alpha. Where K divides L - 1 the same holds with beta > 0 (Corollary 1).

Arithmetic alone, without torch; right but for the last digits of float64, however near F is to 1 / L or to 1.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from detector.errors import SettingError
from detector.prediction import check_member_count

# Whole numbers that float64 holds exactly: far beyond any data set, and safe to compute with.
_MOST_CLASSES: Final = 2**53
# K / alpha beyond this makes the smoothing zero in float64, and is kept finite.
_MOST_RATIO: Final = 1e300


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """What the ensemble of an ideal training answers on every training image.

    Attributes:
        confidence: F, the probability of the true class, above 1 / L and at most 1.
        smoothing: 1 - F, the factor of the equivalent label smoothing, precise where F rounds to 1.
    """

    confidence: float
    smoothing: float


def optimum_of(alpha: float, *, members: int, classes: int) -> Optimum:
    """The confidence of the optimum, Eq. (7) of the paper solved for F.

    Args:
        alpha: Weight of the entropy in Eq. (5), at least 0; with 0 the optimum is certain (Theorem 1).
        members: K, from 2 to L - 1.
        classes: L.

    Raises:
        InputError: K and L without log diversity, or an alpha that is negative or not finite.
    """
    _check_counts(members, classes)
    if not (math.isfinite(alpha) and alpha >= 0):
        raise SettingError(f"alpha: expected a finite number of at least 0, found {alpha}")
    if alpha == 0:
        return Optimum(confidence=1.0, smoothing=0.0)
    # With u = log(F (L - 1) / (1 - F)) Eq. (7) reads u F = K / alpha, which grows with u > 0. F < 1 bounds u from
    # below, and from above F >= 1 / 2 for u >= log(L - 1).
    ratio = min(members / alpha, _MOST_RATIO)
    low, high = ratio, max(math.log(classes - 1), 2 * ratio)
    while low < (middle := (low + high) / 2) < high:
        if middle * _at(middle, classes).confidence < ratio:
            low = middle
        else:
            high = middle
    return _at(high, classes)


def alpha_for(smoothing: float, *, members: int, classes: int) -> float:
    """The alpha whose optimum is as confident as label smoothing makes one network, Eq. (7) solved for alpha.

    Args:
        smoothing: 1 - F, from 0, which takes no alpha (Theorem 1), to below (L - 1) / L, where nothing is left to
            tell the true class by.
        members: K, from 2 to L - 1.
        classes: L.

    Raises:
        InputError: K and L without log diversity, or a smoothing out of that range.
    """
    _check_counts(members, classes)
    if not 0 <= smoothing < 1 or (margin := classes - 1 - Fraction(smoothing) * classes) <= 0:
        raise SettingError(
            f"smoothing: expected 0 or more, and less than (L - 1) / L = {(classes - 1) / classes:.6g} for {classes} "
            f"classes, found {smoothing}; from there on the true class is no likelier than the others"
        )
    if smoothing == 0:
        return 0.0
    if smoothing > 1 / 2:  # near (L - 1) / L the logarithm is of nearly 1
        log_ratio = math.log1p(float(margin / Fraction(smoothing)))
    else:
        log_ratio = math.log(classes - 1) + math.log1p(-smoothing) - math.log(smoothing)
    return members / ((1 - smoothing) * log_ratio)


def divides(members: int, classes: int) -> bool:
    """Whether K divides L - 1, so that members can share the other classes out evenly (Corollary 1, Section 4.6)."""
    return (classes - 1) % members == 0


def _check_counts(members: int, classes: int) -> None:
    """Refuses a K and L that ADP is not defined for, or that float64 cannot count."""
    check_member_count(members, classes)
    if classes > _MOST_CLASSES:
        raise SettingError(f"classes: expected at most {_MOST_CLASSES}, found {classes}")


def _at(log_ratio: float, classes: int) -> Optimum:
    """Where F / ((1 - F) / (L - 1)), what tells the true class from another one, has this logarithm, above 0."""
    others = (classes - 1) * math.exp(-log_ratio)
    return Optimum(confidence=1 / (1 + others), smoothing=others / (1 + others))
