"""How the scores of the images served are spread, beside those of the clean images of the calibration.

The buckets end at quantiles of the clean scores, and at the threshold: where today's images are like
those of the calibration, each bucket gets the share that it got there, whatever the score's scale.
"""

import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.prediction import Floats

_QUANTILES: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

Buckets = list[tuple[str, float]]


class ScoreHistogram:
    """Counts scores in buckets that end, inclusively, at fixed edges; the last has no end.

    Args:
        clean_scores: Of the calibration, in any order; minus infinity is one.
        threshold: Of the calibration; None where each class has its own.

    Attributes:
        edges: Finite and ascending.
    """

    def __init__(self, clean_scores: Sequence[float], threshold: float | None) -> None:
        clean = np.asarray(clean_scores, np.float64)
        quantiles = np.quantile(clean, _QUANTILES, method="inverted_cdf")
        edges = np.unique(quantiles if threshold is None else [*quantiles, threshold])
        self.edges: Floats = edges[np.isfinite(edges)]
        self._lock = threading.Lock()
        self._counts = self._count(clean) * 0
        self._clean = _cumulative(self.edges, self._count(clean))

    def add(self, scores: Floats) -> None:
        """Counts scores, none of them NaN."""
        counts = self._count(scores)
        with self._lock:
            self._counts += counts

    def served(self) -> Buckets:
        """Upper edge and number of scores up to it, of what has been added."""
        with self._lock:
            counts = self._counts.copy()
        return _cumulative(self.edges, counts)

    def clean(self) -> Buckets:
        """The same of the clean scores."""
        return self._clean

    def _count(self, scores: Floats) -> NDArray[np.int64]:
        """Scores in each bucket."""
        return np.bincount(np.searchsorted(self.edges, scores), minlength=len(self.edges) + 1)


def _cumulative(edges: Floats, counts: NDArray[np.int64]) -> Buckets:
    """As Prometheus wants it."""
    names = [*(repr(edge) for edge in edges.tolist()), "+Inf"]
    return list(zip(names, np.cumsum(counts, dtype=np.float64).tolist(), strict=True))
