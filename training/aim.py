"""What an attacker wants of a set of images, before it is known what the model makes of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detector import goal
from detector.prediction import Ints
from training.attacks.objective import AsInPaper, Objective, Targeted, Untargeted


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

    @property
    def suffix(self) -> str:
        """What the name of an attack with this aim ends in; nothing for the usual one."""
        return ""

    def targets(self, batch: Batch) -> Ints | None:  # noqa: ARG002  only some have any
        """The class that each image is to be taken for, (N,); None where that is no certain class."""
        return None

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

    @property
    def suffix(self) -> str:
        """As in `pgd10-0.1-as-in-paper`."""
        return "-as-in-paper"

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

    Raises:
        InputError: Another choice.
    """

    choice: str | int = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        self._chosen  # noqa: B018  refuses what is no choice

    @property
    def _chosen(self) -> goal.Towards:
        """The same without torch, for whoever needs no gradient."""
        return goal.Towards(self.choice, self.seed)

    @property
    def suffix(self) -> str:
        """As in `pgd10-0.1-towards-next`."""
        return self._chosen.suffix

    def targets(self, batch: Batch) -> Ints:
        """The targets.

        Raises:
            InputError: No such class.
        """
        return self._chosen.targets(batch.labels.cpu().numpy(), batch.rows, batch.classes)

    def objective(self, batch: Batch) -> Objective:
        """The same, to climb.

        Raises:
            InputError: No such class.
        """
        return Targeted(torch.from_numpy(self.targets(batch)).to(batch.labels))

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"loss": "label", **self._chosen.describe()}
