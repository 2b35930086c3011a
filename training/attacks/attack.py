"""What every attack is: frozen settings that turn images into attacked ones, batch by batch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from detector.errors import SettingError
from detector.prediction import Ints
from training.attacks.objective import Objective

# Told which share of a batch's work is done, from 0 to 1.
Progress = Callable[[float], object]


def silent(share: float) -> None:
    """Shows no progress."""


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """The settings of an attack."""

    method: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """Method and strength, as reports show it."""

    @abstractmethod
    def perturb(
        self, ensemble: nn.Module, images: Tensor, objective: Objective, rows: Ints, *, progress: Progress = silent
    ) -> Tensor:
        """Attacks a batch.

        Args:
            ensemble: (N, C, H, W) to (N, K, L) logits, in evaluation mode, its weights without gradients.
            images: (N, C, H, W) float32 in [0, 1], on the ensemble's device.
            objective: What is wanted of each image.
            rows: (N,), what an image's random draws are keyed by, each at least 0.
            progress: Told how far it is.

        Returns:
            (N, C, H, W) float32 in [0, 1]. Attacks with a fixed budget return their last iterate, those that
            look for the smallest change return the input where they find none. An image's result does not
            depend on the images beside it.
        """

    def reached(self, objective: Objective, logits: Tensor) -> Tensor:
        """Which images this attack is content with: (N, K, L) logits to (N,) bool; those that are as wanted."""
        return objective.succeeded(logits)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON, defaults filled in."""
        return {"name": self.name, "method": self.method, **asdict(self)}


def check_distance(name: str, value: float) -> None:
    """Refuses a distance that is not in (0, 1], in units of [0, 1] pixels."""
    if not (math.isfinite(value) and 0 < value <= 1):
        raise SettingError(f"{name}: expected a number above 0 and at most 1, in units of [0, 1] pixels, found {value}")


def check_positive(name: str, value: float) -> None:
    """Refuses what is not a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"{name}: expected a number above 0, found {value}")


def check_not_negative(name: str, value: float) -> None:
    """Refuses what is not a finite number of at least 0."""
    if not (math.isfinite(value) and value >= 0):
        raise SettingError(f"{name}: expected a number of at least 0, found {value}")


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Refuses too few."""
    if value < least:
        raise SettingError(f"{name}: expected at least {least}, found {value}")
