"""The scores a calibration may threshold, by name. Each is oriented so that LOWER IS MORE SUSPICIOUS."""

from collections.abc import Mapping
from typing import Final

from detector.errors import InputError, SettingError
from detector.scores.classgaussians import ClassGaussians
from detector.scores.energy import Energy
from detector.scores.entropy import Entropy
from detector.scores.log_diversity import LogDiversity
from detector.scores.mahalanobis import Mahalanobis
from detector.scores.max_probability import MaxProbability
from detector.scores.mixture import Typical
from detector.scores.mutual_information import MutualInformation
from detector.scores.score import Score
from detector.scores.typicality import Typicality

DEFAULT_SCORE: Final = LogDiversity.name
SCORES: Final[Mapping[str, type[Score]]] = {
    score.name: score
    for score in (LogDiversity, MutualInformation, Entropy, MaxProbability, Energy, Typicality, Mahalanobis)
}


def score_named(name: str, fitted: Typical | ClassGaussians | None = None) -> Score:
    """The score of a name, with what a fit of it found.

    Raises:
        InputError: There is no score of that name, or what was fitted is another's.
    """
    if name not in SCORES:
        raise SettingError(f"score: expected one of {', '.join(SCORES)}, found {name}")
    if name == Typicality.name and not isinstance(fitted, ClassGaussians):
        return Typicality(fitted)
    if name == Mahalanobis.name and not isinstance(fitted, Typical):
        return Mahalanobis(fitted)
    if SCORES[name].needs_fit:
        raise InputError(f"{name}: expected a fit of its own, found one of another score")
    return SCORES[name]()
