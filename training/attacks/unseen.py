"""What an attacker wants who knows the detector: what another objective wants, by images that pass for honest."""

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from detector.prediction import Floats, Ints
from detector.threshold import Threshold
from training.attacks.objective import Objective
from training.attacks.surrogates import Surrogate

# How far above the threshold, relative to it, counts as passed: room for the last bits of another execution path.
ROOM: Final = 1e-3
# By how much the margin of log F is to be on the wrong side before it is left alone.
_CONFIDENCE: Final = 0.1


@dataclass(frozen=True)
class Unseen(Objective):
    """What another objective wants, by images whose score is not below the threshold.

    The score is that of the class that the image is on its way to, and so is the threshold: what they are of the class
    that it still has is nothing that a successful image will be judged by, and to raise that is often to hold on to it.

    Attributes:
        labels: (N,) int64, the other objective's.
        goal: The other objective.
        score: The score's twin.
        limits: (L,) float64, the score to reach by class, see `least`.
        weights: (N,) float64, of the score's part, above 0.
    """

    goal: Objective
    score: Surrogate
    limits: Tensor
    weights: Tensor

    def loss(self, logits: Tensor) -> Tensor:
        """Minus what falls short: of the goal until it is reached, and of the threshold."""
        return -self.shortfall(logits, _CONFIDENCE)

    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """The goal's, and the weighted distance of the score to the threshold."""
        return self.goal.shortfall(logits, confidence) + self.weights * self._missing(logits)

    def succeeded(self, logits: Tensor) -> Tensor:
        """Where the goal is reached and the twin passes."""
        return self.goal.succeeded(logits) & (self._missing(logits) == 0)

    def heading(self, logits: Tensor) -> Tensor:
        """The goal's."""
        return self.goal.heading(logits)

    def only(self, chosen: Tensor) -> Self:
        """The same for some of the images."""
        return replace(self, labels=self.labels[chosen], goal=self.goal.only(chosen), weights=self.weights[chosen])

    def weighing(self, weight: float) -> Self:
        """The same with that weight for all images."""
        return replace(self, weights=torch.full_like(self.weights, weight))

    def _missing(self, logits: Tensor) -> Tensor:
        """How far the score is below what it has to be: (N,) float64, 0 where it passes."""
        classes = self.heading(logits)
        return (self.limits[classes] - self.score(logits, classes)).clamp(min=0)


def least(threshold: Threshold, classes: Ints) -> Floats:
    """The score to reach by predicted class, with room to spare: (N,) to (N,)."""
    limits = threshold.limits(classes)
    return limits + ROOM * np.maximum(1, np.abs(limits, out=np.zeros_like(limits), where=np.isfinite(limits)))
