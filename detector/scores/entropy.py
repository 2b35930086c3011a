"""Entropy of the ensemble's prediction, as a score."""

import numpy as np

from detector.outputs import Outputs
from detector.prediction import Floats
from detector.scores.score import Score


class Entropy(Score):
    """Minus the entropy of the mean prediction, in nats: -log L to 0."""

    name = "entropy"
    suspicious = "a prediction spread over many classes"
    of_prediction = True

    def measure(self, outputs: Outputs) -> Floats:
        """The predicted class's own term is computed from 1 - p, since p may round to 1."""
        mean = outputs.probabilities
        others = mean.copy()
        others[np.arange(len(mean)), outputs.labels] = 0.0
        logs = np.log(others, out=np.zeros_like(others), where=others > 0)
        top, doubt = mean.max(axis=1), others.sum(axis=1)
        own = np.where(doubt < 0.5, np.log1p(-np.minimum(doubt, 0.5)), np.log(top))
        return np.asarray((others * logs).sum(axis=1) + top * own)
