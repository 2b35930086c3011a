"""A calibration: a threshold, the evidence for it, and what it was measured on."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PlainSerializer, PlainValidator, model_validator

from detector.device import ExecutionPath
from detector.document import Document, Record
from detector.errors import CalibrationError, LedgateError
from detector.rates import Auc, Rate
from detector.scores import SCORES
from detector.targets import Target, target_from_json, target_to_json

FILE = "calibration.json"


class AttackEvidence(Record):
    """How one attack's inputs fare, on the report part.

    Attributes:
        name: Of the attack, for example `pgd10-0.1`.
        auc: All clean against all attacked inputs.
        flagged: Share of all attacked inputs.
        auc_successful: All clean against the successful attacks only; None where none succeeded
            or success is not known.
        flagged_successful: Share of the successful attacks, likewise.
    """

    name: str
    auc: Auc
    flagged: Rate
    auc_successful: Auc | None = None
    flagged_successful: Rate | None = None


class ProbesFile(Record):
    """The bundle's `probes.npz`.

    Attributes:
        sha256: Of the file.
        tolerance: A probe's score may move by this much, relative to max(1, |score|).
    """

    sha256: str
    tolerance: float


class Calibration(Document):
    """A bundle's `calibration.json`.

    Attributes:
        score: Name of the thresholded score.
        threshold: An input is flagged when its score is below it, never at equality.
        target: What the threshold was to achieve.
        clean_scores: Sorted scores of the clean images of the threshold part: what the threshold
            was chosen from, and what p-values count.
        false_positives: Share of the clean images of the report part that are flagged.
        accuracy: Share of them that are classified right; None without labels.
        attacks: Evidence for each attack.
        members_digest: Of the members the scores were measured on.
        execution_path: On which they were measured.
        probes: Images that recognise another path.
        report_fraction: Share of the clean images that reported only; None with separate files.
        seed: Of that split.
        provenance: Files, versions, command and time.
        digest: Of this document.
    """

    error: ClassVar[type[LedgateError]] = CalibrationError

    format: Literal[1] = 1
    score: str
    threshold: float
    target: Annotated[Target, PlainValidator(target_from_json), PlainSerializer(target_to_json)]
    false_positives: Rate
    accuracy: Rate | None
    attacks: tuple[AttackEvidence, ...]
    members_digest: str
    execution_path: ExecutionPath
    probes: ProbesFile
    report_fraction: float | None
    seed: int
    provenance: dict[str, Any]
    clean_scores: tuple[float, ...] = Field(min_length=1)
    digest: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """A score that is not a number would never be below a threshold, and so pass as clean."""
        if self.score not in SCORES:
            raise ValueError(f"score: expected one of {', '.join(SCORES)}, found {self.score}")
        if math.isnan(self.threshold) or any(math.isnan(value) for value in self.clean_scores):
            raise ValueError("expected numbers for the threshold and the clean scores, found nan")
        if any(a > b for a, b in zip(self.clean_scores, self.clean_scores[1:], strict=False)):
            raise ValueError("clean_scores: expected them sorted")
        return self
