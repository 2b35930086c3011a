"""Gaussian mixtures as plain numbers: fitted by scikit-learn, evaluated here, stored as JSON."""

import math
import warnings
from functools import cached_property
from typing import Final, Self

import numpy as np
from pydantic import Field, model_validator

from detector.document import Record
from detector.outputs import log_sum_exp
from detector.prediction import Floats, Ints

COMPONENTS: Final = 3
# Added to the variances of standardised statistics, so that no component shrinks to a point.
_REGULARISATION: Final = 1e-3
_SEED: Final = 0
_ITERATIONS: Final = 300

Vector = tuple[float, ...]


class Gaussian(Record):
    """One component of a mixture.

    Attributes:
        log_weight: Natural log of its share.
        mean: (D,).
        precision: (D, D), upper triangular: x - mean times this is standard normal.
    """

    log_weight: float = Field(allow_inf_nan=False, le=0)
    mean: tuple[float, ...]
    precision: tuple[Vector, ...]


class Typical(Record):
    """Densities of statistics, one for each predicted class, fitted on clean images.

    Attributes:
        centre: (D,) mean of each statistic over the images of the fit.
        scale: (D,) its standard deviation.
        mixtures: Some mixtures of Gaussians over the standardised statistics.
        which: (L,) the mixture of each class, by index.
        n: Images of the fit.
    """

    centre: Vector
    scale: Vector
    mixtures: tuple[tuple[Gaussian, ...], ...] = Field(min_length=1)
    which: tuple[int, ...]
    n: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """What is not finite, or does not fit together, would give scores that are no numbers."""
        size = len(self.centre)
        if len({len(mixture) for mixture in self.mixtures}) != 1 or not self.mixtures[0]:
            raise ValueError("mixtures: expected as many components in each, and at least one")
        for gaussian in (gaussian for mixture in self.mixtures for gaussian in mixture):
            if len(gaussian.mean) != size or [len(row) for row in gaussian.precision] != [size] * size:
                raise ValueError(f"mixtures: expected means and precisions of {size} statistics")
        arrays = (np.array(self.centre), np.array(self.scale), self._means, self._precisions)
        if self._precisions.ndim != 4 or not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("mixtures: expected finite numbers")
        if len(self.scale) != size or min(self.scale) <= 0 or not (self._diagonals > 0).all():
            raise ValueError("mixtures: expected positive scales and precisions")
        if not all(0 <= index < len(self.mixtures) for index in self.which):
            raise ValueError(f"which: expected 0 to {len(self.mixtures) - 1}")
        return self

    @cached_property
    def _centre(self) -> Floats:
        """(D,)."""
        return np.array(self.centre)

    @cached_property
    def _scale(self) -> Floats:
        """(D,)."""
        return np.array(self.scale)

    @cached_property
    def _which(self) -> Ints:
        """(L,)."""
        return np.array(self.which)

    @cached_property
    def _means(self) -> Floats:
        """(M, components, D)."""
        return np.array([[gaussian.mean for gaussian in mixture] for mixture in self.mixtures])

    @cached_property
    def _precisions(self) -> Floats:
        """(M, components, D, D)."""
        return np.array([[gaussian.precision for gaussian in mixture] for mixture in self.mixtures])

    @cached_property
    def _diagonals(self) -> Floats:
        """(M, components, D)."""
        return np.diagonal(self._precisions, axis1=2, axis2=3)

    @cached_property
    def _constants(self) -> Floats:
        """What the log density of each component has beside the square: (M, components)."""
        weights = np.array([[gaussian.log_weight for gaussian in mixture] for mixture in self.mixtures])
        return np.asarray(weights + np.log(self._diagonals).sum(axis=2) - len(self.centre) / 2 * math.log(2 * math.pi))

    def log_density(self, values: Floats, labels: Ints) -> Floats:
        """Log density of each row, standardised, under the mixture of its class.

        Args:
            values: (N, D) statistics.
            labels: (N,) predicted classes.

        Returns:
            (N,) natural log. Each row has a matrix product of its own: one of all rows would depend on the batch.
        """
        mixture = self._which[labels]
        standard = (values - self._centre) / self._scale
        gap = standard[:, None, :] - self._means[mixture]
        normal = np.matmul(gap[:, :, None], self._precisions.take(mixture, axis=0))[:, :, 0]
        return log_sum_exp(self._constants[mixture] - 0.5 * (normal * normal).sum(axis=2))


def fit_typical(values: Floats, labels: Ints, classes: int, least: int) -> Typical:
    """Fits one mixture for each class with at least so many rows, and one of all rows for the others.

    Args:
        values: (N, D) statistics of clean images.
        labels: (N,) predicted classes.
        classes: L.
        least: Rows that a class needs for a mixture of its own.
    """
    centre, spread = values.mean(axis=0), values.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    standard = (values - centre) / scale
    counts = np.bincount(labels, minlength=classes)
    own = np.flatnonzero(counts >= least).tolist()
    parts = [standard[labels == label] for label in own]
    which = {label: index for index, label in enumerate(own)}
    if len(own) < classes:
        parts.append(standard)
    return Typical(
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        mixtures=tuple(_fit(part) for part in parts),
        which=tuple(which.get(label, len(own)) for label in range(classes)),
        n=len(values),
    )


def _fit(rows: Floats) -> tuple[Gaussian, ...]:
    """A mixture of some rows, the same each time."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(COMPONENTS, reg_covar=_REGULARISATION, max_iter=_ITERATIONS, random_state=_SEED)
    with warnings.catch_warnings():  # of rows that repeat; the regularisation takes care of them
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(rows)
    return tuple(
        Gaussian(
            log_weight=min(0.0, math.log(max(weight, np.finfo(np.float64).tiny))),
            mean=tuple(mean),
            precision=tuple(map(tuple, precision)),
        )
        for weight, mean, precision in zip(
            mixture.weights_.tolist(), mixture.means_.tolist(), mixture.precisions_cholesky_.tolist(), strict=True
        )
    )
