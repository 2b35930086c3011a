"""What a threshold is to achieve: `TargetFpr`, `TargetTpr`, or `Explicit`.

A score flags an input when `score < threshold`, never at equality, so with the threshold at one of
the clean scores at most those below it are flagged however many are tied: with `<=` a score that
takes few values breaks every promise.

The promises are PAC bounds on an order statistic: of n independent draws, the share of the
distribution below the m-th smallest follows Beta(m, n - m + 1), or is stochastically smaller where
there are ties. They hold with confidence 1 - delta over the choice of the calibration images, for
inputs drawn like them; an average guarantee (conformal) is broken by almost every second
calibration.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from detector.errors import CalibrationError, InputError
from detector.prediction import Floats


@dataclass(frozen=True)
class TargetFpr:
    """At most this share of clean inputs is flagged, with confidence 1 - delta.

    Attributes:
        rate: The share, between 0 and 1.
        delta: The probability that the promise is broken.
    """

    rate: float
    delta: float = 0.05

    def __post_init__(self) -> None:
        _check_fraction("target FPR", self.rate)
        _check_fraction("delta", self.delta)

    def __str__(self) -> str:
        return f"TargetFpr({self.rate:g}, delta={self.delta:g})"

    @property
    def least(self) -> int:
        """The smallest number of clean scores with which the promise can be kept."""
        return math.ceil(math.log(self.delta) / math.log1p(-self.rate))

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The highest threshold that keeps the promise.

        Args:
            clean: (n,) scores of clean inputs.
            attacked: Not used.

        Raises:
            CalibrationError: n is too small; names the n it takes.
        """
        from scipy.stats import beta  # slow to import, and only needed to choose a threshold

        del attacked
        count = len(clean)
        ranks = np.arange(1, count + 1)
        kept = np.flatnonzero(beta.cdf(self.rate, ranks, count - ranks + 1) >= 1 - self.delta)
        if not len(kept):
            least = max(self.least, count + 1)  # the two round differently
            raise CalibrationError(
                f"{self}: expected at least {least} clean images in the threshold part, found {count}"
            )
        return float(np.sort(clean)[kept[-1]])


@dataclass(frozen=True)
class TargetTpr:
    """At least this share of inputs of every attack is flagged, with confidence 1 - delta.

    Whatever it costs in false alarms. With several attacks, delta is shared out among them.

    Attributes:
        rate: The share, between 0 and 1.
        delta: The probability that the promise is broken for any of the attacks.
    """

    rate: float
    delta: float = 0.05

    def __post_init__(self) -> None:
        _check_fraction("target TPR", self.rate)
        _check_fraction("delta", self.delta)

    def __str__(self) -> str:
        return f"TargetTpr({self.rate:g}, delta={self.delta:g})"

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The lowest threshold that keeps the promise for every attack.

        Args:
            clean: Not used.
            attacked: (n,) scores of attacked inputs for each attack.

        Raises:
            CalibrationError: No attack, or too few inputs of one; names the n it takes.
        """
        del clean
        if not attacked:
            raise CalibrationError(f"{self}: expected attacked images, found none")
        share = self.delta / len(attacked)
        return max(self._one(scores, share) for scores in attacked)

    def _one(self, scores: Floats, delta: float) -> float:
        """The threshold for one attack."""
        from scipy.stats import beta

        count = len(scores)
        ranks = np.arange(1, count + 1)
        kept = np.flatnonzero(beta.sf(self.rate, ranks, count - ranks + 1) >= 1 - delta)
        if not len(kept):
            least = max(math.ceil(math.log(delta) / math.log(self.rate)), count + 1)  # the two round differently
            raise CalibrationError(
                f"{self}: expected at least {least} images of each attack in the threshold part, found {count}"
            )
        # Just above that score, so that it is flagged itself.
        return float(np.nextafter(np.sort(scores)[kept[0]], np.inf))


@dataclass(frozen=True)
class Explicit:
    """A threshold of the user's own.

    Attributes:
        value: Inputs with a score below it are flagged. Minus infinity flags none.
    """

    value: float

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise InputError("threshold: expected a number, found nan")

    def __str__(self) -> str:
        return f"Explicit({self.value:g})"

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The value itself; the scores are not used."""
        del clean, attacked
        return self.value


Target = TargetFpr | TargetTpr | Explicit

_KINDS: Final[dict[str, type[Target]]] = {"fpr": TargetFpr, "tpr": TargetTpr, "explicit": Explicit}


def target_to_json(target: Target) -> dict[str, Any]:
    """A target as plain JSON."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(target, cls))
    values = {key: str(v).replace("inf", "Infinity") if math.isinf(v) else v for key, v in asdict(target).items()}
    return {"kind": kind, **values}


def target_from_json(value: Any) -> Target:
    """Plain JSON, or a target, to a target; ValueError where it is none."""
    if isinstance(value, Target):
        return value
    if not isinstance(value, dict) or value.get("kind") not in tuple(_KINDS):
        raise ValueError(f"expected a kind of {', '.join(_KINDS)}")
    try:
        return _KINDS[value["kind"]](**{key: float(v) for key, v in value.items() if key != "kind"})
    except TypeError:
        raise ValueError("expected the fields of that kind, and numbers in them") from None


def _check_fraction(name: str, value: float) -> None:
    """Raises unless 0 < value < 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}: expected a number between 0 and 1, found {value}")
