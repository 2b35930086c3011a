"""What an attacker wants of a set of images, before it is known what the model makes of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.errors import InputError
from detector.prediction import Ints
from training.attacks.objective import AsInPaper, Objective, Targeted, Untargeted
from training.seeds import generator


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is known of clean images that are to be attacked.

    Attributes:
        labels: (N,) int64, the true labels.
        predictions: (N,) int64, what the attacked model makes of them.
        classes: L.
        rows: (N,), what an image's random draws are keyed by.
    """

    labels: Tensor
    predictions: Tensor
    classes: int
    rows: Ints


class Aim(ABC):
    """What is wanted of any images."""

    @abstractmethod
    def objective(self, batch: Batch) -> Objective:
        """What is wanted of these."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """As JSON: `loss`, and `target` where there is one."""


@dataclass(frozen=True)
class AwayFromLabel(Aim):
    """Any class but the true one, by the loss that measures just that: -log of its averaged probability."""

    def objective(self, batch: Batch) -> Objective:
        """The true labels."""
        return Untargeted(batch.labels)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"loss": "label"}


@dataclass(frozen=True)
class AwayAsInPaper(Aim):
    """The protocol behind the paper's tables: away from the model's own prediction, see `AsInPaper`."""

    def objective(self, batch: Batch) -> Objective:
        """The predictions."""
        return AsInPaper(batch.predictions)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"loss": "paper"}


@dataclass(frozen=True)
class Towards(Aim):
    """A class of the attacker's choice.

    Attributes:
        choice: `random`, another class than the true one, drawn for each image; `next`, the true label plus one;
            or the number of a class, which images of that class are aimed at too.
        seed: Of random choices, at least 0.
    """

    choice: str | int = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.choice not in ("random", "next") and not (isinstance(self.choice, int) and self.choice >= 0):
            raise InputError(f"target: expected random, next or the number of a class, found {self.choice!r}")

    def objective(self, batch: Batch) -> Objective:
        """The targets."""
        return Targeted(self.targets(batch.labels, batch.rows, batch.classes))

    def targets(self, labels: Tensor, rows: Ints, classes: int) -> Tensor:
        """(N,) int64, each image's.

        Raises:
            InputError: No such class.
        """
        if isinstance(self.choice, int):
            if self.choice >= classes:
                raise InputError(f"target: expected 0 to {classes - 1}, found {self.choice}")
            return torch.full_like(labels, self.choice)
        if self.choice == "next":
            return (labels + 1) % classes
        # One number for each row of a data set, whichever of its images are here.
        draws = generator(self.seed, "targets").integers(1, classes, size=int(rows.max()) + 1)
        return (labels + torch.from_numpy(np.asarray(draws)[rows]).to(labels)) % classes

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"loss": "label", "target": self.choice, "target_seed": self.seed}
