"""What is wanted of each attacked image, as functions of the predictions alone, for attacks that see no more.

They start from the log of the averaged prediction. For a single member it differs from the logits by a constant, so
that the untargeted loss is the margin of logits that the field's attacks bring down; of an ensemble there are no
logits to see, and log F takes their place. Where members are certain, plain probabilities lose what matters: F_y
rounds to 1 from a margin of about 37 on, and one candidate looks like another, while the logs of the others tell
them apart down to the smallest number of float64, a margin of 744. Where they are not, either finds as much.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError, SettingError
from detector.prediction import Floats, Ints

_LEAST = np.nextafter(0.0, 1.0)


@dataclass(frozen=True)
class Goal(ABC):
    """What is wanted of N images.

    Attributes:
        labels: (N,) int64, the class to leave, or to reach.
    """

    labels: Ints

    @abstractmethod
    def loss(self, predictions: Floats) -> Floats:
        """What to bring down: (N, L) averaged predictions to (N,) float64, finite."""

    @abstractmethod
    def reached(self, classes: Ints) -> NDArray[np.bool_]:
        """Which images are what is wanted, by their predicted classes (N,): (N,)."""

    def only(self, chosen: NDArray[Any]) -> Self:
        """The same for some of the images, a mask or indices."""
        return type(self)(self.labels[chosen])


class Untargeted(Goal):
    """Any prediction but the label."""

    def loss(self, predictions: Floats) -> Floats:
        """The margin: log F_y less the log of the largest other class's."""
        logs = _log(predictions)
        rows = np.arange(len(logs))
        own = logs[rows, self.labels]
        logs[rows, self.labels] = -np.inf
        return np.asarray(own - logs.max(axis=1))

    def reached(self, classes: Ints) -> NDArray[np.bool_]:
        """Where it is another class."""
        return np.asarray(classes != self.labels)


class Targeted(Goal):
    """The prediction that the attacker chose."""

    def loss(self, predictions: Floats) -> Floats:
        """-log F_t."""
        return np.asarray(-_log(predictions)[np.arange(len(predictions)), self.labels])

    def reached(self, classes: Ints) -> NDArray[np.bool_]:
        """Where it is the target."""
        return np.asarray(classes == self.labels)


@dataclass(frozen=True)
class Towards:
    """A class of the attacker's choice for each image.

    Attributes:
        choice: `random`, another class than the true one, drawn for each image; `next`, the true label plus one;
            or the number of a class, which images of that class are aimed at too.
        seed: Of random choices, at least 0.
    """

    choice: str | int = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.choice not in ("random", "next") and not (isinstance(self.choice, int) and self.choice >= 0):
            raise SettingError(f"target: expected random, next or the number of a class, found {self.choice!r}")

    def targets(self, labels: Ints, rows: Ints, classes: int) -> Ints:
        """Each image's target.

        Args:
            labels: (N,), the true ones.
            rows: (N,), what an image's random choice is keyed by, each at least 0.
            classes: L.

        Raises:
            InputError: No such class.
        """
        if isinstance(self.choice, int):
            if self.choice >= classes:
                raise InputError(f"target: expected 0 to {classes - 1}, found {self.choice}")
            return np.full_like(labels, self.choice)
        if self.choice == "next":
            return (labels + 1) % classes
        # One number for each row of a data set, whichever of its images are here.
        rng = np.random.default_rng([self.seed, *b"targets"])
        return np.asarray(labels + rng.integers(1, classes, size=int(rows.max()) + 1)[rows]) % classes

    @property
    def suffix(self) -> str:
        """What the name of an attack with this goal ends in, as in `square5000-0.03-towards-next`."""
        return f"-towards-{self.choice}"

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"target": self.choice, "target_seed": self.seed}


def _log(predictions: Floats) -> Floats:
    """The logs, a probability of 0 taken for the smallest number there is."""
    return np.asarray(np.log(np.maximum(predictions, _LEAST)))
