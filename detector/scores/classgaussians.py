"""A Gaussian for each class, all of one shape, as plain numbers: fitted on clean images, stored as JSON."""

import math
from functools import cached_property
from typing import Final, Self

import numpy as np
from pydantic import Field, model_validator

from detector.document import Record
from detector.prediction import Floats, Ints
from detector.scores.mixture import Vector

# Added to the variances of standardised values, so that images that repeat have a density too.
_REGULARISATION: Final = 1e-6


class ClassGaussians(Record):
    """Densities of an image's values, one Gaussian for each predicted class, with one covariance for all.

    Attributes:
        means: Some means, (D,) each.
        which: (L,) the mean of each class, by index.
        precision: (D, D), upper triangular: x - mean times this is standard normal.
        n: Images of the fit.
    """

    means: tuple[Vector, ...] = Field(min_length=1)
    which: tuple[int, ...]
    precision: tuple[Vector, ...] = Field(min_length=1)
    n: int

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """What is not finite, or does not fit together, would give scores that are no numbers."""
        size = self.size
        if any(len(row) != size for row in (*self.means, *self.precision)):
            raise ValueError(f"means, precision: expected rows of {size} numbers")
        if not (np.isfinite(self._means).all() and np.isfinite(self._precision).all()):
            raise ValueError("means, precision: expected finite numbers")
        if not (np.diagonal(self._precision) > 0).all() or np.tril(self._precision, -1).any():
            raise ValueError("precision: expected an upper triangular matrix, positive on its diagonal")
        if not all(0 <= index < len(self.means) for index in self.which):
            raise ValueError(f"which: expected 0 to {len(self.means) - 1}")
        return self

    @property
    def size(self) -> int:
        """D."""
        return len(self.precision)

    @cached_property
    def _means(self) -> Floats:
        return np.array(self.means)

    @cached_property
    def _precision(self) -> Floats:
        return np.array(self.precision)

    @cached_property
    def _constant(self) -> float:
        """What the log density has beside the square."""
        return float(np.log(np.diagonal(self._precision)).sum() - self.size / 2 * math.log(2 * math.pi))

    def log_density(self, values: Floats, labels: Ints) -> Floats:
        """Log density of each row under the Gaussian of its class.

        Args:
            values: (N, D).
            labels: (N,) predicted classes.

        Returns:
            (N,) natural log. `einsum` as it is here calls no BLAS, which would sum a row in an order that depends on
            its batch.
        """
        gap = values - self._means[np.array(self.which)[labels]]
        normal = np.einsum("nd,de->ne", gap, self._precision)
        return np.asarray(self._constant - 0.5 * (normal * normal).sum(axis=1))


def fit_classes(values: Floats, labels: Ints, classes: int, least: int) -> ClassGaussians:
    """Fits them; the covariance within classes is shrunk as Ledoit and Wolf say (J. Multivariate Analysis, 2004).

    Args:
        values: (N, D), of clean images.
        labels: (N,) predicted classes.
        classes: L.
        least: Rows that a class needs for a mean of its own; the others share the mean of all rows.
    """
    from sklearn.covariance import ledoit_wolf

    own = np.flatnonzero(np.bincount(labels, minlength=classes) >= least).tolist()
    which = np.full(classes, len(own))
    which[own] = np.arange(len(own))
    parts = [values[labels == label] for label in own] + ([values] if len(own) < classes else [])
    means = np.stack([part.mean(axis=0) for part in parts])
    gap = values - means[which[labels]]
    spread = gap.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    covariance, _ = ledoit_wolf(gap / scale, assume_centered=True)
    covariance = covariance + _REGULARISATION * np.eye(len(scale))
    # Of the inverse's lower triangular factor the transpose: x times it is standard normal.
    precision = np.linalg.inv(np.linalg.cholesky(covariance)).T / scale[:, None]
    return ClassGaussians(
        means=tuple(map(tuple, means.tolist())),
        which=tuple(which.tolist()),
        precision=tuple(map(tuple, np.triu(precision).tolist())),
        n=len(values),
    )
