"""The scores a calibration may threshold, by name. Each is oriented so that LOWER IS MORE SUSPICIOUS."""

from collections.abc import Mapping
from typing import Final

from detector.errors import InputError
from detector.scores.energy import Energy
from detector.scores.entropy import Entropy
from detector.scores.log_diversity import LogDiversity
from detector.scores.max_probability import MaxProbability
from detector.scores.mixture import Typical
from detector.scores.mutual_information import MutualInformation
from detector.scores.score import Score
from detector.scores.typicality import Typicality

DEFAULT_SCORE: Final = LogDiversity.name
SCORES: Final[Mapping[str, type[Score]]] = {
    score.name: score for score in (LogDiversity, MutualInformation, Entropy, MaxProbability, Energy, Typicality)
}


def score_named(name: str, fitted: Typical | None = None) -> Score:
    """The score of a name, with what a fit of it found.

    Raises:
        InputError: There is no score of that name.
    """
    if name not in SCORES:
        raise InputError(f"score: expected one of {', '.join(SCORES)}, found {name}")
    return Typicality(fitted) if name == Typicality.name else SCORES[name]()
