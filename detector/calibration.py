"""A calibration: a score, a threshold, the evidence for it, and what it was measured on.

Format 2 added everything that has a default here; calibrations of format 1 open as they are.
"""

import math
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from detector.confidence import Confidence, recalibrate
from detector.device import ExecutionPath
from detector.document import Document, Record
from detector.errors import CalibrationError, InputError, LedgateError
from detector.evidence import AttackEvidence, ScoreEvidence, Seen
from detector.prediction import Floats, Ints
from detector.rates import Rate
from detector.scores import SCORES, score_named
from detector.scores.classgaussians import ClassGaussians
from detector.scores.mixture import Typical
from detector.scores.score import Score
from detector.targets import PerClass, Target, target_from_json, target_to_json
from detector.threshold import Threshold

FILE = "calibration.json"


class ProbesFile(Record):
    """The bundle's `probes.npz`.

    Attributes:
        sha256: Of the file.
        tolerance: A probe's score may move by this much, relative to max(1, |score|).
        logit_tolerance: A probe's logits may move by this much, relative to max(1, its largest
            |logit|); None in calibrations of format 1, whose logits are not compared.
    """

    sha256: str
    tolerance: float
    logit_tolerance: float | None = None


class Calibration(Document):
    """A bundle's `calibration.json`.

    Attributes:
        score: Name of the thresholded score.
        fitted: What a fit of that score found, on clean images of a part of their own; None where
            there is nothing to fit.
        fit_from: Digest of the calibration whose fit this is, where scores alone chose the threshold; None where
            it was fitted for this one, or not at all.
        threshold: An input is flagged when its score is below it, never at equality. None where
            each predicted class has its own.
        thresholds: (L,) by predicted class, or None.
        target: What the threshold was to achieve.
        changed_fpr: Largest share of the images after each mild change that it was to flag, of those changes of
            `detector.shifts.MILD`; None where clean images alone chose it.
        clean_scores: Sorted scores of the clean images of the threshold part, one for each source:
            what the threshold was chosen from, and what p-values count.
        clean_classes: The predicted class of each, where each class has its own threshold.
        false_positives: Share of the clean images of the report part that are flagged.
        accuracy: Share of them that are classified right; None without labels.
        confidence: The temperature; None without labels.
        attacks: Evidence for each attack.
        views: And for all of them: all together, and the worst case. Empty with fewer than two.
        comparison: Every score on the same images, the calibrated one and log diversity among them.
        changed: Clean images of the report part after each mild change, see `detector.shifts`.
        foreign: Images of other kinds.
        members_digest: Of the members the scores were measured on.
        execution_path: On which they were measured.
        probes: Images that recognise another path.
        report_fraction: Share of the clean images that reported only; None with separate files.
        fit_fraction: Share of the others that the score was fitted on; None where nothing was fitted.
        repeats: Clean images that did not count, since another one of their source did.
        seed: Of these draws.
        provenance: Files, versions, command and time.
        digest: Of this document.
    """

    error: ClassVar[type[LedgateError]] = CalibrationError

    format: Literal[1, 2] = 2
    score: str
    fitted: Typical | ClassGaussians | None = None
    fit_from: str | None = None
    threshold: float | None
    thresholds: tuple[float, ...] | None = None
    target: Annotated[Target, PlainValidator(target_from_json), PlainSerializer(target_to_json)]
    changed_fpr: float | None = Field(default=None, gt=0, lt=1)
    false_positives: Rate
    accuracy: Rate | None
    confidence: Confidence | None = None
    attacks: tuple[AttackEvidence, ...]
    views: tuple[AttackEvidence, ...] = ()
    comparison: tuple[ScoreEvidence, ...] = ()
    changed: tuple[Seen, ...] = ()
    foreign: tuple[Seen, ...] = ()
    members_digest: str
    execution_path: ExecutionPath
    probes: ProbesFile
    report_fraction: float | None
    fit_fraction: float | None = None
    repeats: int = 0
    seed: int
    provenance: dict[str, Any]
    clean_scores: tuple[float, ...] = Field(min_length=1)
    clean_classes: tuple[int, ...] | None = None
    digest: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """A score that is not a number would never be below a threshold, and so pass as clean."""
        if self.score not in SCORES:
            raise ValueError(f"score: expected one of {', '.join(SCORES)}, found {self.score}")
        if (self.fitted is not None) != SCORES[self.score].needs_fit:
            raise ValueError(f"fitted: expected {self.score} to be fitted if, and only if, it needs it")
        try:
            score_named(self.score, self.fitted)
        except InputError as error:
            raise ValueError(f"fitted: {error}") from error
        per_class = isinstance(self.target, PerClass)
        given = (self.thresholds is not None, self.clean_classes is not None, self.threshold is None)
        if any(field != per_class for field in given):
            raise ValueError("expected one threshold, or one for each class with the classes of the clean scores")
        numbers = [*self.clean_scores, *(self.thresholds or [self.threshold])]
        if any(number is None or math.isnan(number) for number in numbers):
            raise ValueError("expected numbers for the threshold and the clean scores, found nan")
        if any(a > b for a, b in zip(self.clean_scores, self.clean_scores[1:], strict=False)):
            raise ValueError("clean_scores: expected them sorted")
        if self.clean_classes is not None and len(self.clean_classes) != len(self.clean_scores):
            raise ValueError("clean_classes: expected one for each clean score")
        return self

    def check_classes(self, classes: int) -> None:
        """Raises CalibrationError unless it is of so many classes."""
        found = {
            "thresholds": None if self.thresholds is None else len(self.thresholds),
            "fitted": None if self.fitted is None else len(self.fitted.which),
        }
        for name, count in found.items():
            if count not in (None, classes):
                raise CalibrationError(f"calibration: {name}: expected {classes} classes, found {count}")

    @cached_property
    def score_fitted(self) -> Score:
        """The score, ready to measure."""
        return score_named(self.score, self.fitted)

    @cached_property
    def limit(self) -> Threshold:
        """The threshold, or those of the classes."""
        return Threshold(overall=self.threshold, by_class=self.thresholds)

    def flags(self, scores: Floats, labels: Ints) -> NDArray[np.bool_]:
        """Which images of these scores (N,) and predicted classes (N,) are flagged."""
        return self.limit.flags(scores, labels)

    def p_values(self, scores: Floats, labels: Ints) -> Floats:
        """Conformal p-values against the clean scores, those of the predicted class where each has its threshold."""
        if self.thresholds is None:
            return _p_values(self._sorted, scores)
        found = np.empty(len(scores))
        for label in np.unique(labels).tolist():
            own = labels == label
            found[own] = _p_values(self._by_class[label], scores[own])
        return found

    def recalibrated(self, probabilities: Floats) -> Floats | None:
        """The prediction with the temperature, (N, L) to (N, L); None without one."""
        return None if self.confidence is None else recalibrate(probabilities, self.confidence.temperature)

    @cached_property
    def _sorted(self) -> Floats:
        """The clean scores."""
        return np.array(self.clean_scores)

    @cached_property
    def _by_class(self) -> list[Floats]:
        """The clean scores of each predicted class."""
        assert self.thresholds is not None
        classes = np.array(self.clean_classes)
        return [self._sorted[classes == label] for label in range(len(self.thresholds))]


def _p_values(clean: Floats, scores: Floats) -> Floats:
    """Share of the sorted clean scores that are at least as suspicious, the input itself counted in."""
    below = np.searchsorted(clean, scores, side="right")
    return np.asarray((1 + below) / (1 + len(clean)), dtype=np.float64)
