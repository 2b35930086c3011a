"""How far the ensemble's answer is from those to clean images of the class it names, as a score."""

from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import CalibrationError
from detector.outputs import Outputs, in_blocks
from detector.prediction import Floats, Ints
from detector.scores.classgaussians import ClassGaussians, fit_classes
from detector.scores.score import Score

LEAST: Final = 100  # images of a fit
OWN: Final = 30  # and of a class with a mean of its own
# Of members times classes: the fit's images would be too few, its numbers too many, for a covariance of more.
MOST: Final = 512


class Mahalanobis(Score):
    """Log density of all the members' log probabilities, under a Gaussian for each class.

    Up to constants it is minus half the squared Mahalanobis distance to the mean of the predicted
    class. Lee et al., "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks", NeurIPS 2018, take it over the features of one network's layers; here it
    is over what the members answer, (K * L) log probabilities. An answer may be too certain, as in
    typicality, and besides have the wrong class in the second place: an attacked image keeps traces
    of its true class. Nothing is suspicious of being nearer to the mean than clean images are.

    It is fitted on CLEAN images only. `docs/scores.md` has what it finds and what it costs.

    Args:
        fitted: What a fit found.
    """

    name: ClassVar[str] = "mahalanobis"
    suspicious: ClassVar[str] = "answers far from those to clean images of the class"
    needs_fit: ClassVar[bool] = True
    fitted: ClassGaussians | None

    def __init__(self, fitted: ClassGaussians | None = None) -> None:
        self.fitted = fitted

    def measure(self, outputs: Outputs) -> Floats:
        """See `ClassGaussians.log_density`.

        Raises:
            CalibrationError: It was fitted to another number of members or classes.
        """
        assert self.fitted is not None, "mahalanobis: fit it first"
        values = log_probabilities(outputs)
        if values.shape[1] != self.fitted.size:
            raise CalibrationError(
                f"mahalanobis: expected {self.fitted.size} logits an image, as in its fit, found {values.shape[1]}"
            )
        return self.fitted.log_density(values, outputs.labels)

    def keep(self, outputs: Outputs) -> NDArray[Any]:
        """The logits, (N, K, L); of more than it can be fitted on none, (N, K, 0)."""
        members, classes = outputs.logits.shape[1:]
        return outputs.logits if members * classes <= MOST else outputs.logits[:, :, :0]

    def of_kept(self, kept: NDArray[Any], labels: Ints) -> Floats:
        """The score of the logits, which say the labels."""
        del labels
        return self.of(kept)

    def fit_kept(self, kept: NDArray[Any], labels: Ints, classes: int) -> "Mahalanobis":
        """Fits means and covariance.

        Raises:
            CalibrationError: Too few images, or too many members and classes.
        """
        size = kept.shape[1] * classes
        if size > MOST:
            raise CalibrationError(
                f"mahalanobis: expected at most {MOST} logits an image, found {size}: see typicality"
            )
        if len(kept) < LEAST:
            raise CalibrationError(f"mahalanobis: expected at least {LEAST} clean images to fit, found {len(kept)}")
        values = np.concatenate([log_probabilities(outputs) for outputs in in_blocks(kept)])
        return Mahalanobis(fit_classes(values, labels, classes, OWN))


def log_probabilities(outputs: Outputs) -> Floats:
    """The log of each member's softmax, one member after the other: (N, K * L)."""
    return np.asarray((outputs.logits - outputs.free_energies[:, :, None]).reshape(len(outputs), -1))
