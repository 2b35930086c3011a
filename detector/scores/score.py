"""What a score is: a number for each image, computed from the members' logits alone.

LOWER IS MORE SUSPICIOUS, for every score. The label that a score leaves out is the ensemble's own
prediction, which is all that a server knows. The same code scores offline and in the server.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.outputs import Outputs, in_blocks
from detector.prediction import Floats
from detector.scores.classgaussians import ClassGaussians
from detector.scores.mixture import Typical


class Score(ABC):
    """A score that a calibration may threshold.

    Attributes:
        name: By which it is asked for.
        suspicious: What it finds suspicious, as a phrase.
        needs_fit: Whether it has to be fitted on clean images before it can measure.
        fitted: What a fit found, as it is stored in the calibration; None where there is nothing to fit.
    """

    name: ClassVar[str]
    suspicious: ClassVar[str]
    needs_fit: ClassVar[bool] = False
    fitted: Typical | ClassGaussians | None = None

    @abstractmethod
    def measure(self, outputs: Outputs) -> Floats:
        """The score of each image: (N,) float64, which may be infinite and is never NaN."""

    def of(self, logits: NDArray[np.floating[Any]]) -> Floats:
        """The score of any number of images from their logits: (N, K, L) to (N,)."""
        return np.concatenate([self.measure(outputs) for outputs in in_blocks(logits)])

    def fit(self, logits: NDArray[np.floating[Any]]) -> "Score":
        """The score, fitted on the logits of clean images: itself, where there is nothing to fit."""
        del logits
        return self
