"""What a threshold is to achieve: a type for each wish, and `PerClass` for one in every class.

A score flags an input when `score < threshold`, never at equality, so with the threshold at one of
the clean scores at most those below it are flagged however many are tied: with `<=` a score that
takes few values breaks every promise.

The promises of `TargetFpr` and `TargetTpr` are PAC bounds on an order statistic: of n independent
draws, the share of the distribution below the m-th smallest follows Beta(m, n - m + 1), or is
stochastically smaller where there are ties. They hold with confidence 1 - delta over the choice of
the calibration images, for inputs drawn like them. The promise of `MeanFpr` (conformal) holds on
average over that choice only: almost every second calibration breaks it.
"""

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from detector.errors import CalibrationError, SettingError
from detector.prediction import Floats, Ints


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
        del attacked
        count = len(clean)
        rank = _highest_rank(self.rate, self.delta, count)
        if not rank:
            raise _too_few(self, "clean images", max(self.least, count + 1), count)  # the two round differently
        return _at_rank(clean, rank)


@dataclass(frozen=True)
class MeanFpr:
    """At most this share of clean inputs is flagged ON AVERAGE over calibrations: split conformal.

    With k = ceil((n + 1)(1 - rate)), the threshold is the k-th highest clean score. Almost every
    second calibration flags a larger share: (n 1,000, rate 0.01) 46 % of them do. `TargetFpr` bounds
    the calibration that is used, and costs detection.

    Attributes:
        rate: The share, between 0 and 1.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_fraction("target FPR", self.rate)

    def __str__(self) -> str:
        return f"MeanFpr({self.rate:g})"

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The highest threshold that keeps the promise.

        Args:
            clean: (n,) scores of clean inputs.
            attacked: Not used.

        Raises:
            CalibrationError: n is too small; names the n it takes.
        """
        del attacked
        count = len(clean)
        # A hair less, so that (n + 1) times (1 - rate) is not rounded up to the next whole number.
        rank = count + 1 - math.ceil((count + 1) * (1 - self.rate) * (1 - 1e-12))
        if not rank:
            raise _too_few(self, "clean images", math.ceil(1 / self.rate * (1 - 1e-12)) - 1, count)
        return _at_rank(clean, rank)


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
        count = len(scores)
        rank = _lowest_rank(self.rate, delta, count)
        if not rank:
            least = max(math.ceil(math.log(delta) / math.log(self.rate)), count + 1)  # the two round differently
            raise _too_few(self, "images of each attack", least, count)
        # Just above that score, so that it is flagged itself.
        return float(np.nextafter(_at_rank(scores, rank), np.inf))


@dataclass(frozen=True)
class Youden:
    """The largest share of attacked inputs flagged less share of clean inputs flagged (Youden's J).

    Every attack counts alike. It promises nothing, neither of false alarms nor of detection.
    """

    def __str__(self) -> str:
        return "Youden()"

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The lowest threshold with the largest J.

        Args:
            clean: (n,) scores of clean inputs.
            attacked: (n,) scores of attacked inputs for each attack.

        Raises:
            CalibrationError: No clean or no attacked inputs.
        """
        if not len(clean) or not attacked or not all(map(len, attacked)):
            raise CalibrationError(f"{self}: expected clean and attacked images, found none of one kind")
        # Flagging changes just above a score; minus infinity flags none.
        steps = np.nextafter(np.unique(np.concatenate(attacked)), np.inf)
        candidates = np.concatenate([[-np.inf], steps])
        gain = np.mean([_share_below(scores, candidates) for scores in attacked], axis=0)
        return float(candidates[np.argmax(gain - _share_below(clean, candidates))])


@dataclass(frozen=True)
class Explicit:
    """A threshold of the user's own.

    Attributes:
        value: Inputs with a score below it are flagged. Minus infinity flags none.
    """

    value: float

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise SettingError("threshold: expected a number, found nan")

    def __str__(self) -> str:
        return f"Explicit({self.value:g})"

    def threshold(self, clean: Floats, attacked: list[Floats]) -> float:
        """The value itself; the scores are not used."""
        del clean, attacked
        return self.value


Simple = TargetFpr | MeanFpr | TargetTpr | Youden | Explicit


@dataclass(frozen=True)
class PerClass:
    """A threshold for each predicted class, chosen from that class's images alone.

    A promise with a delta holds for all classes together: each gets delta / L (Bonferroni).

    Attributes:
        target: What each class's threshold is to achieve.
    """

    target: TargetFpr | MeanFpr | TargetTpr | Youden

    def __post_init__(self) -> None:
        if not isinstance(self.target, TargetFpr | MeanFpr | TargetTpr | Youden):
            raise SettingError(f"per class: expected TargetFpr, MeanFpr, TargetTpr or Youden, found {self.target}")

    def __str__(self) -> str:
        return f"PerClass({self.target})"

    def thresholds(
        self, clean: Floats, classes: Ints, attacked: list[tuple[Floats, Ints]], names: tuple[str, ...]
    ) -> Floats:
        """One threshold for each class, (L,).

        Args:
            clean: (n,) scores of clean inputs.
            classes: (n,) the predicted class of each.
            attacked: For each attack, (n,) scores and predicted classes.
            names: L names, for messages.

        Raises:
            CalibrationError: A class has too few; names it and the number it takes.
        """
        target = self.target
        if isinstance(target, TargetFpr | TargetTpr):
            target = replace(target, delta=target.delta / len(names))
        found = np.empty(len(names))
        for label, name in enumerate(names):
            try:
                found[label] = target.threshold(clean[classes == label], [s[c == label] for s, c in attacked])
            except CalibrationError as error:
                raise CalibrationError(f"class {label} ({name}): {error}") from None
        return found


Target = Simple | PerClass

_KINDS: Final[dict[str, type[Simple]]] = {
    "fpr": TargetFpr,
    "mean_fpr": MeanFpr,
    "tpr": TargetTpr,
    "youden": Youden,
    "explicit": Explicit,
}
_PER_CLASS: Final = "per_class"


def target_to_json(target: Target) -> dict[str, Any]:
    """A target as plain JSON."""
    if isinstance(target, PerClass):
        return {"kind": _PER_CLASS, "target": target_to_json(target.target)}
    kind = next(name for name, cls in _KINDS.items() if isinstance(target, cls))
    values = {key: str(v).replace("inf", "Infinity") if math.isinf(v) else v for key, v in asdict(target).items()}
    return {"kind": kind, **values}


def target_from_json(value: Any) -> Target:
    """Plain JSON, or a target, to a target; ValueError where it is none."""
    if isinstance(value, Target):
        return value
    if not isinstance(value, dict) or value.get("kind") not in (*_KINDS, _PER_CLASS):
        raise ValueError(f"expected a kind of {', '.join((*_KINDS, _PER_CLASS))}")
    fields = {key: field for key, field in value.items() if key != "kind"}
    try:
        if value["kind"] == _PER_CLASS:
            return PerClass(**{key: target_from_json(field) for key, field in fields.items()})  # type: ignore[arg-type]
        return _KINDS[value["kind"]](**{key: float(field) for key, field in fields.items()})
    except TypeError:
        raise ValueError("expected the fields of that kind, and numbers in them") from None


@lru_cache
def _highest_rank(rate: float, delta: float, count: int) -> int:
    """The highest m, from 1, whose order statistic has at most this share below it, surely enough; 0 if none has."""
    from scipy.stats import beta  # slow to import, and only needed to choose a threshold

    ranks = np.arange(1, count + 1)
    return int(ranks[beta.cdf(rate, ranks, count - ranks + 1) >= 1 - delta].max(initial=0))


@lru_cache
def _lowest_rank(rate: float, delta: float, count: int) -> int:
    """The lowest m, from 1, whose order statistic has at least this share up to it, surely enough; 0 if none has."""
    from scipy.stats import beta

    ranks = np.arange(1, count + 1)
    kept = ranks[beta.sf(rate, ranks, count - ranks + 1) >= 1 - delta]
    return int(kept[0]) if len(kept) else 0


def _at_rank(scores: Floats, rank: int) -> float:
    """The rank-th lowest score, from 1."""
    return float(np.partition(scores, rank - 1)[rank - 1])


def _share_below(scores: Floats, thresholds: Floats) -> Floats:
    """Share of the scores below each threshold."""
    return np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)


def _too_few(target: Simple, what: str, least: int, count: int) -> CalibrationError:
    """The refusal of a promise that so few images cannot keep."""
    return CalibrationError(f"{target}: expected at least {least} {what} in the threshold part, found {count}")


def _check_fraction(name: str, value: float) -> None:
    """Raises unless 0 < value < 1."""
    if not 0 < value < 1:
        raise SettingError(f"{name}: expected a number between 0 and 1, found {value}")
