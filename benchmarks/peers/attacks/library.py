"""What a library is asked for: its version of one of our attacks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detector.square import Square
from training.attacks import Attack

Settings = Attack | Square


class LogPrediction(nn.Module):
    """An ensemble as libraries take it: (N, C, H, W) to (N, L), the log of the mean of the members' softmax, float32.

    They take the outputs for logits, and the softmax of these is the averaged prediction: their cross-entropy
    is -log F_y, and the difference of two outputs is our margin.
    """

    def __init__(self, ensemble: nn.Module) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, images: Tensor) -> Tensor:
        """The log prediction."""
        members = torch.log_softmax(self.ensemble(images), dim=2)
        return torch.logsumexp(members, dim=1) - math.log(members.shape[1])


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """A library's version of one of our attacks.

    Attributes:
        run: (N, C, H, W) images and (N,) labels, to leave or to reach, to attacked images. Random starts come
            from the states of torch and numpy.
        differs: In which way it is not quite the same attack, if it is not.
        weaker: Whether that makes it find less.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    differs: str = ""
    weaker: bool = False


@dataclass(frozen=True)
class Broken:
    """A library's version that does something else.

    Attributes:
        why: What that is.
    """

    why: str


class Library(ABC):
    """A library, set to attack an ensemble.

    Args:
        ensemble: (N, C, H, W) to (N, K, L) logits, in evaluation mode.
        shape: C, H, W.
        classes: L.
        device: Where the ensemble lies.
        targeted: Whether labels are to be reached.
    """

    name: ClassVar[str]

    def __init__(
        self,
        ensemble: nn.Module,
        *,
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        targeted: bool = False,
    ) -> None:
        self.model = LogPrediction(ensemble).eval()
        self.shape, self.classes, self.device, self.targeted = shape, classes, device, targeted

    @abstractmethod
    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours; None where it has none."""


# What the versions of Square that all libraries share do otherwise than ours.
SQUARE_DIFFERS = (
    "spends queries on squares that change nothing, half of them on grey images, and never reaches the last row and "
    "column; with both, ours finds what it does"
)
