"""How typical the ensemble's answer is of clean images of the class it names, as a score."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import CalibrationError
from detector.outputs import Outputs
from detector.prediction import Floats, Ints
from detector.scores.mixture import Typical, fit_typical
from detector.scores.score import Score
from detector.scores.statistics import statistics

LEAST: Final = 100  # images of a fit
# And of a class with a density of its own. On MNIST (three ResNet-20 with ADP, 2,000 images, four attacks) densities of
# 200 images each had AUCs of 0.993 to 0.997, and one of all classes 0.997 to 0.999.
OWN: Final = 500
_ROWS: Final = 4096  # images at a time, so that memory stays bounded


class Typicality(Score):
    """Log density of eleven statistics of the logits, under a mixture fitted on CLEAN images only.

    A strong attack drives every one-sided score beyond that of clean images, to the side that looks
    honest. Here both sides count: an answer that is more certain, or more diverse, than those to
    clean images of that class is as suspicious as one that is less. No attack is seen in the fit.
    The price: harmless changes of an image, such as noise and blur, are not typical either; and an
    attacker who knows the density can aim at it.

    Args:
        fitted: What a fit found.
    """

    name = "typicality"
    suspicious = "answers unlike those to clean images of the class"
    needs_fit = True
    fitted: Typical | None

    def __init__(self, fitted: Typical | None = None) -> None:
        self.fitted = fitted

    def measure(self, outputs: Outputs) -> Floats:
        """See `detector.scores.statistics` and `Typical.log_density`."""
        assert self.fitted is not None, "typicality: fit it first"
        return self.fitted.log_density(statistics(outputs), outputs.labels)

    def keep(self, outputs: Outputs) -> Floats:
        """The statistics, (N, 11)."""
        return statistics(outputs)

    def of_kept(self, kept: NDArray[Any], labels: Ints) -> Floats:
        """See `Typical.log_density`."""
        assert self.fitted is not None, "typicality: fit it first"
        starts = range(0, len(kept), _ROWS)
        return np.concatenate([self.fitted.log_density(kept[n : n + _ROWS], labels[n : n + _ROWS]) for n in starts])

    def fit_kept(self, kept: NDArray[Any], labels: Ints, classes: int) -> "Typicality":
        """Fits the densities; classes with few images share one of all images.

        Raises:
            CalibrationError: Too few images.
        """
        if len(kept) < LEAST:
            raise CalibrationError(f"typicality: expected at least {LEAST} clean images to fit, found {len(kept)}")
        return Typicality(fit_typical(kept, labels, classes, OWN))
