"""What another detector is: something that is fitted, and scores images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.imageset import ImageSet
from detector.prediction import Floats, mean_prediction
from training.detection.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a detector may learn from.

    Attributes:
        subject: The run, with its networks.
        train: Clean training images, with labels.
        shown: Makes attacked validation images, by the attack's method, with the clean ones they were made from.
        seed: Of whatever is drawn.
    """

    subject: Subject
    train: ImageSet
    shown: Mapping[str, Callable[[], ImageSet]]
    seed: int

    def predictions(self, images: NDArray[np.float32]) -> Floats:
        """The ensemble's predictions, (N, C, H, W) to (N, L)."""
        return mean_prediction(self.subject.logits(ImageSet(images=images)))


class Detector(ABC):
    """A detector, fitted.

    Attributes:
        fitted_on: What it was fitted on, as a phrase.
        seen: The methods of the attacks that it was shown images of.
    """

    fitted_on: str
    seen: tuple[str, ...] = ()

    @abstractmethod
    def score(self, images: ImageSet) -> Floats:
        """(N,) float64, lower is more suspicious."""


# What fits each detector that there is for a case, by the detector's name: library or source, and method.
Make = Callable[[Case], Mapping[str, Callable[[], Detector]]]
