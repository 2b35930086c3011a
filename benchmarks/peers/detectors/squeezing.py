"""Feature squeezing: how far the prediction moves when the image is made simpler.

Xu, Evans and Qi, "Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks", 2018: the score is the
largest L1 distance between the prediction of an image and of its squeezed versions. Their best joint detectors: on
MNIST 1 bit and a 2 x 2 median, on CIFAR-10 5 bits, a 2 x 2 median, and non-local means (13, 3, 2). Written from
their formulas; they call OpenCV for non-local means, which works on other colours than red, green and blue.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter

from benchmarks.peers.detectors.detector import Case, Detector
from detector.imageset import ImageSet, as_floats
from detector.prediction import Floats
from training.robustness.plan import EASY

Pixels = NDArray[np.float32]
Squeezer = Callable[[Pixels], Pixels]

_BATCH: Final = 256


def bits(images: Pixels, depth: int) -> Pixels:
    """Rounded to so many bits: (N, C, H, W) in [0, 1]."""
    steps = 2**depth - 1
    return np.asarray(np.rint(images * steps) / steps, dtype=np.float32)


def median(images: Pixels, size: int = 2) -> Pixels:
    """Each pixel's median of a square; beyond the edge the image is mirrored."""
    return np.asarray(median_filter(images, size=(1, 1, size, size), mode="reflect"))


def non_local_means(images: Pixels, search: int = 13, patch: int = 3, strength: float = 2.0) -> Pixels:
    """Each pixel's mean over those around it, weighted by how alike their surroundings are.

    Buades et al., "A Non-Local Algorithm for Image Denoising", 2005: weights exp(-d / h^2), d the mean square
    difference of two patches over pixels and colours, h the strength, of 255.

    Args:
        images: (N, C, H, W) in [0, 1].
        search: Width of the square that is looked through, odd.
        patch: Width of a patch, odd.
        strength: Above 0.
    """
    reach = search // 2
    exact = images.astype(np.float64)
    height, width = exact.shape[2:]
    around = np.pad(exact, [(0, 0), (0, 0), (reach, reach), (reach, reach)], "reflect")
    total, weight = np.zeros_like(exact), np.zeros_like(exact[:, :1])
    for down in range(search):
        for right in range(search):
            moved = around[:, :, down : down + height, right : right + width]
            difference = ((exact - moved) ** 2).mean(axis=1, keepdims=True)
            alike = uniform_filter(difference, size=(1, 1, patch, patch), mode="reflect")
            own = np.exp(-alike / (strength / 255) ** 2)
            total += own * moved
            weight += own
    return np.asarray(total / weight, dtype=np.float32)


class FeatureSqueezing(Detector):
    """The joint detector of some squeezers."""

    fitted_on = "nothing"

    def __init__(self, predict: Callable[[Pixels], Floats], squeezers: Sequence[Squeezer]) -> None:
        self._predict, self._squeezers = predict, squeezers

    def score(self, images: ImageSet) -> Floats:
        """Minus the largest distance."""
        parts = []
        for batch in images.batches(_BATCH):
            plain = as_floats(batch)
            before = self._predict(plain)
            moved = [np.abs(self._predict(squeeze(plain)) - before).sum(axis=1) for squeeze in self._squeezers]
            parts.append(-np.max(moved, axis=0))
        return np.concatenate(parts)


def make(case: Case) -> Mapping[str, Callable[[], Detector]]:
    """The one for images of that kind."""
    easy = case.subject.run.config.dataset in EASY
    squeezers: list[Squeezer] = [lambda images: bits(images, 1 if easy else 5), median]
    squeezers += [] if easy else [non_local_means]
    return {"feature-squeezing: joint": lambda: FeatureSqueezing(case.predictions, squeezers)}
