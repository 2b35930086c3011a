"""What a score is: a number for each image, computed from the members' logits alone.

LOWER IS MORE SUSPICIOUS, for every score. The label that a score leaves out is the ensemble's own
prediction, which is all that a server knows. The same code scores offline and in the server.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detector.outputs import Outputs, in_blocks
from detector.prediction import Floats, Ints
from detector.scores.classgaussians import ClassGaussians
from detector.scores.mixture import Typical


class Score(ABC):
    """A score that a calibration may threshold.

    Attributes:
        name: By which it is asked for.
        suspicious: What it finds suspicious, as a phrase.
        of_prediction: Whether the averaged prediction alone says it, so that whoever is told that knows the score.
        needs_fit: Whether it has to be fitted on clean images before it can measure.
        fitted: What a fit found, as it is stored in the calibration; None where there is nothing to fit.
    """

    name: ClassVar[str]
    suspicious: ClassVar[str]
    of_prediction: ClassVar[bool] = False
    needs_fit: ClassVar[bool] = False
    fitted: Typical | ClassGaussians | None = None

    @abstractmethod
    def measure(self, outputs: Outputs) -> Floats:
        """The score of each image: (N,) float64, which may be infinite and is never NaN."""

    def of(self, logits: NDArray[np.floating[Any]]) -> Floats:
        """The score of any number of images from their logits: (N, K, L) to (N,)."""
        return np.concatenate([self.measure(outputs) for outputs in in_blocks(logits)])

    def fit(self, logits: NDArray[np.floating[Any]]) -> "Score":
        """The score, fitted on the logits of clean images: itself, where there is nothing to fit.

        Raises:
            CalibrationError: Images that it cannot be fitted on.
        """
        if not self.needs_fit:
            return self
        parts = [(self.keep(outputs), outputs.labels) for outputs in in_blocks(logits)]
        kept, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self.fit_kept(kept, labels, logits.shape[2])

    def keep(self, outputs: Outputs) -> NDArray[Any]:
        """What it takes to score, or to be fitted on, images whose logits are not kept: (N, ...).

        A score that is not fitted keeps itself. One that is keeps what its fit works on.
        """
        return self.measure(outputs)

    def of_kept(self, kept: NDArray[Any], labels: Ints) -> Floats:
        """The score of any number of images, (N,), from what was kept of them and their predicted classes, (N,)."""
        del labels
        return kept

    def fit_kept(self, kept: NDArray[Any], labels: Ints, classes: int) -> "Score":
        """`fit` on what was kept of clean images, with their predicted classes (N,) and L."""
        del kept, labels, classes
        return self
