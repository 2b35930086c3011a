"""The threshold: one for all images, or one for each predicted class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.prediction import Floats, Ints
from detector.targets import PerClass, Target

Scores = tuple[Floats, Ints]
"""Scores (n,) and predicted classes (n,)."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What scores are compared with; exactly one of the two is given.

    Attributes:
        overall: For all images.
        by_class: (L,) by predicted class.
    """

    overall: float | None = None
    by_class: tuple[float, ...] | None = None

    @classmethod
    def choose(
        cls, target: Target, clean: Scores, attacked: Mapping[str, Scores], names: tuple[str, ...]
    ) -> "Threshold":
        """The threshold that a target takes, from scores of clean images and of each attack's.

        Raises:
            CalibrationError: The target is out of reach; names the class, and the number it takes.
        """
        if isinstance(target, PerClass):
            found = target.thresholds(*clean, list(attacked.values()), names)
            return cls(by_class=tuple(found.tolist()))
        return cls(overall=target.threshold(clean[0], [scores for scores, _ in attacked.values()]))

    def limits(self, labels: Ints) -> Floats:
        """The threshold of each predicted class: (N,) to (N,)."""
        if self.by_class is None:
            return np.full(len(labels), self.overall, dtype=np.float64)
        return np.array(self.by_class)[labels]

    def flags(self, scores: Floats, labels: Ints) -> NDArray[np.bool_]:
        """Which scores are below the threshold of their class, never at equality: the one place that decides."""
        return np.asarray(scores < self.limits(labels))

    def __str__(self) -> str:
        return f"{self}"

    def __format__(self, form: str) -> str:
        """The threshold, or the range of them, each as a number of that form."""
        form = form or ".6g"
        if self.by_class is None:
            return format(self.overall, form)
        return f"{min(self.by_class):{form}} to {max(self.by_class):{form}} by class"
