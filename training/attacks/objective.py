"""What is wanted of each attacked image, and how far an attack is from it.

An attack asks an objective three things of the logits it sees: the loss to climb, the shortfall to bring down
to zero, and whether it has what it wants. Attacks of a fixed budget climb; those that look for the smallest
change weigh the shortfall against the distance.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from training.adp import log_mean
from training.attacks.loss import ensemble_loss, margin, repeated_softmax_loss


@dataclass(frozen=True)
class Objective(ABC):
    """What is wanted of N images.

    Attributes:
        labels: (N,) int64, the class to leave, or to reach.
    """

    labels: Tensor

    @abstractmethod
    def loss(self, logits: Tensor) -> Tensor:
        """What to climb: (N, K, L) logits to (N,) float64."""

    @abstractmethod
    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """How far each image is from what is wanted: (N,) float64, 0 where it is there by `confidence`."""

    @abstractmethod
    def succeeded(self, logits: Tensor) -> Tensor:
        """Which images are what is wanted: (N,) bool."""

    @abstractmethod
    def heading(self, logits: Tensor) -> Tensor:
        """The class that each image has, or is closest to, when it is as wanted: (N,) int64, without a gradient."""

    def only(self, chosen: Tensor) -> Self:
        """The same for some of the images, a mask or indices."""
        return type(self)(self.labels[chosen])


class Untargeted(Objective):
    """Any prediction but the label, by climbing -log of the label's averaged probability."""

    def loss(self, logits: Tensor) -> Tensor:
        """-log F_y."""
        return ensemble_loss(logits, self.labels)

    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """The margin of log F that is left."""
        return (margin(logits, self.labels) + confidence).clamp(min=0)

    def succeeded(self, logits: Tensor) -> Tensor:
        """Where the prediction is another class, the lowest index on ties."""
        return log_mean(logits).argmax(dim=1) != self.labels

    def heading(self, logits: Tensor) -> Tensor:
        """The most probable class but the label."""
        return log_mean(logits.detach()).scatter(1, self.labels[:, None], -torch.inf).argmax(dim=1)


class AsInPaper(Untargeted):
    """Untargeted as in the paper's own code: the label is the model's prediction, the loss takes softmax twice.

    Its C&W and EAD do take the log of the averaged probability; for them only the label differs.
    """

    def loss(self, logits: Tensor) -> Tensor:
        """The cross-entropy of the softmax of the probabilities."""
        return repeated_softmax_loss(logits, self.labels)


class Targeted(Objective):
    """The prediction that the attacker chose, by climbing the log of its averaged probability."""

    def loss(self, logits: Tensor) -> Tensor:
        """Log F_t."""
        return -ensemble_loss(logits, self.labels)

    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """The margin of log F that the target lacks."""
        return (confidence - margin(logits, self.labels)).clamp(min=0)

    def succeeded(self, logits: Tensor) -> Tensor:
        """Where the prediction is the target."""
        return log_mean(logits).argmax(dim=1) == self.labels

    def heading(self, logits: Tensor) -> Tensor:  # noqa: ARG002  it is given
        """The target."""
        return self.labels
