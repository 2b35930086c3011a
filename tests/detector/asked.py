"""Classifiers to be asked, with answers that can be worked out by hand, and a count kept by somebody else."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.oracle import Oracle
from detector.prediction import Floats

Images = NDArray[np.float32]
SHAPE = (1, 6, 6)


def softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def weights(classes: int = 2, *, shape: tuple[int, ...] = SHAPE, scale: float = 3.0) -> Floats:
    """(pixels, L)."""
    return np.random.default_rng(0).normal(size=(int(np.prod(shape)), classes)) * scale


def noise(count: int, *, shape: tuple[int, ...] = SHAPE) -> Images:
    """Images, some of whose pixels are black and white, where [0, 1] is the tighter bound."""
    drawn = np.random.default_rng(1).uniform(-0.2, 1.2, size=(count, *shape))
    return np.clip(drawn, 0, 1).astype(np.float32)


class Asked:
    """A linear classifier that keeps what it is asked.

    Attributes:
        calls: The images of every call.
    """

    def __init__(self, matrix: Floats, *, shape: tuple[int, ...] = SHAPE) -> None:
        self.matrix = matrix
        self.shape = shape
        self.calls: list[Images] = []

    def predict(self, images: Any) -> Floats:
        # Summed image by image, so that the batch changes no bit of an answer.
        flat = images.reshape(len(images), -1).astype(np.float64)
        return softmax(np.stack([(row[:, None] * self.matrix).sum(axis=0) for row in flat]))

    def __call__(self, images: Images) -> Floats:
        self.calls.append(images.copy())
        return self.predict(images)

    def labels(self, images: Images) -> NDArray[np.int64]:
        return np.asarray(self.predict(images).argmax(axis=1))

    def oracle(self, **options: Any) -> Oracle:
        return Oracle(ask=self, shape=self.shape, classes=self.matrix.shape[1], **options)

    def times(self, images: Images) -> list[int]:
        """How often each of these was asked about, if they are far from each other and changed but little."""
        found: Counter[int] = Counter()
        for asked in np.concatenate(self.calls):
            found[int(np.abs(images - asked).reshape(len(images), -1).max(axis=1).argmin())] += 1
        return [found[index] for index in range(len(images))]
