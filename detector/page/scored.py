"""Images of the report part with their scores."""

from dataclasses import dataclass

import numpy as np

from detector.prediction import Floats, Ints
from detector.scores.score import Score
from detector.source import Selection
from detector.split import Answered
from detector.threshold import Threshold


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Images of the report part under the calibrated score.

    Attributes:
        images: Where they are; they are not in memory.
        scores: (n,).
        classes: (n,) the ensemble's class of each.
    """

    images: Selection
    scores: Floats
    classes: Ints

    @classmethod
    def of(cls, score: Score, answered: Answered) -> "Scored":
        """From what the members answered."""
        return cls(images=answered.images, scores=answered.scores(score), classes=answered.classes)

    def margins(self, threshold: Threshold) -> Floats:
        """How far each score lies above its threshold, (n,): below 0 the image is flagged, and at equality it is 0."""
        limits = threshold.limits(self.classes)
        return np.subtract(self.scores, limits, out=np.zeros(len(limits)), where=self.scores != limits)
