"""What an attack without gradients asks: images in, averaged predictions out, every query counted.

A query is one image, however many of them go into one call. Where the budget for all queries together is
spent, nothing is raised: the attack looks before it asks, ends with what it has, and its result says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.detector import Detector
from detector.errors import InputError, SettingError
from detector.imageset import ImageSet
from detector.prediction import Floats, Ints, mean_prediction

# (N, C, H, W) float32 in [0, 1] to the averaged prediction, (N, L) float64.
Ask = Callable[[NDArray[np.float32]], Floats]

_ROUNDING = 1e-3  # of probabilities that somebody else has computed, in float32 or worse


@dataclass(kw_only=True)
class Oracle:
    """Something to ask.

    Attributes:
        ask: Answers images with averaged predictions. An image's answer must not depend on those beside it.
        shape: (C, H, W) of the images.
        classes: L.
        known_as: What it is, as JSON, for instance a bundle's digest; written into results.
        budget: Most queries, for all images together; None for no end of them.
        spent: Queries asked so far.
    """

    ask: Ask
    shape: tuple[int, ...]
    classes: int
    known_as: Mapping[str, str] = field(default_factory=dict)
    budget: int | None = None
    spent: int = 0

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 1:
            raise SettingError(f"budget: expected at least 1 query, found {self.budget}")

    @classmethod
    def of_detector(cls, detector: Detector, *, budget: int | None = None) -> "Oracle":
        """A bundle in this process; nothing but its predictions is looked at."""

        def ask(images: NDArray[np.float32]) -> Floats:
            return mean_prediction(np.concatenate(list(detector.runs(images))))

        bundle = detector.bundle
        return cls(
            ask=ask,
            shape=bundle.input.shape,
            classes=bundle.class_count,
            known_as={"bundle": bundle.digest},
            budget=budget,
        )

    def labels_of(self, images: ImageSet) -> Ints:
        """The true labels of images, once they and the images fit; see `ImageSet.true_labels`."""
        return images.true_labels(self.shape, self.classes)

    def covers(self, queries: int) -> bool:
        """Whether the budget has room for so many more."""
        return self.budget is None or self.spent + queries <= self.budget

    def charge(self, queries: int) -> None:
        """Counts queries that an earlier, interrupted piece of the same work has asked."""
        self.spent += queries

    def __call__(self, images: NDArray[np.float32]) -> Floats:
        """Asks about images.

        Args:
            images: (N, C, H, W) float32 in [0, 1]; N queries, for which the budget has room.

        Raises:
            InputError: What came back is no prediction for each image.
        """
        assert self.covers(len(images))
        self.spent += len(images)
        answers = np.asarray(self.ask(images), dtype=np.float64)
        if answers.shape == (len(images), 0):
            raise InputError("predictions: expected the probability of each class, found none; from the class alone "
                             "an attack by queries learns nothing until it has succeeded")  # fmt: skip
        expected = (len(images), self.classes)
        if answers.shape != expected:
            raise InputError(f"predictions: expected shape {expected}, found {answers.shape}")
        odd = ~((answers >= 0) & (answers <= 1)).all(axis=1) | ~(np.abs(answers.sum(axis=1) - 1) <= _ROUNDING)
        if odd.any():
            found = answers[odd][0]
            raise InputError(f"predictions: expected probabilities that add up to 1, found {np.array2string(found[:4])}"
                             f" and a sum of {found.sum():g}")  # fmt: skip
        return answers
