"""What the detector says of some images."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.prediction import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Answers for N images, one row each.

    Attributes:
        labels: (N,) int64, the ensemble's class: the argmax of `probabilities`.
        class_names: N names, the label's.
        probabilities: (N, L) float64, the mean of the members' softmax, Eq. (1). ADP makes it
            under-confident by design; it is no calibrated confidence.
        log_diversity: (N,) float64, at most 0, lower is more suspicious; None where a server hides it.
        score: (N,) float64, what the threshold is compared with, lower is more suspicious; None
            where a server hides it.
        p_values: (N,) float64 in (0, 1], conformal, against the clean scores of the calibration;
            None without one. It and the flag answer different questions: the p-value holds on
            average over calibrations, the flag with the calibration's stated confidence.
        adversarial: (N,) bool, `score < threshold`, that of the predicted class where each has its
            own; None without a calibration.
        member_probabilities: (N, K, L) float64, each member's softmax, where asked for.
        recalibrated_probabilities: (N, L) float64, `probabilities` with the calibration's
            temperature, to be read as a confidence; the order of the classes is the same. None where
            the calibration has no temperature.
    """

    labels: Ints
    class_names: tuple[str, ...]
    probabilities: Floats
    log_diversity: Floats | None
    score: Floats | None
    p_values: Floats | None
    adversarial: NDArray[np.bool_] | None
    member_probabilities: Floats | None = None
    recalibrated_probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, rows: slice) -> "Verdicts":
        """Some rows; a field that is lacking stays so."""
        own = object.__new__(Verdicts)  # what a frozen dataclass's own constructor does takes three times as long
        vars(own).update({name: None if value is None else value[rows] for name, value in vars(self).items()})
        return own

    @classmethod
    def concatenate(cls, parts: Sequence["Verdicts"]) -> "Verdicts":
        """Joins verdicts in order; a field that one part lacks is lacking in the whole."""
        joined: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if any(value is None for value in values):
                joined[field.name] = None
            elif field.name == "class_names":
                joined[field.name] = tuple(name for value in values for name in value)
            else:
                joined[field.name] = np.concatenate(values)
        return cls(**joined)
