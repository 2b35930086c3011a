"""Images that are none of the ensemble's classes, though nobody attacked them: are they flagged too?

They come with scikit-learn or are drawn, so that every machine has the very same ones and nothing is downloaded.
Noise is far from whatever the ensemble has learnt, shuffled images and pieces of photographs are nearer. Two
photographs are not many kinds of things; what a camera meets that is no class at all is wider than this.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from detector.imageset import as_floats

Pixels = NDArray[np.float32]

_SQUARES = 4
_GREY = 1


def strangers(images: Pixels, seed: int) -> Mapping[str, Pixels]:
    """As many strange images as clean ones, of each kind, by its name; drawn from the seed.

    Args:
        images: (N, C, H, W) clean ones in [0, 1], C 1 or 3.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    return {
        "pieces of photographs": _pieces(images.shape, rng),
        "test images, shuffled in 4 x 4 pieces": np.stack([_shuffled(image, rng) for image in images]),
        "uniform noise": rng.random(images.shape, dtype=np.float32),
    }


def _pieces(shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Cut, anywhere, out of scikit-learn's two photographs, a temple and a flower; enlarged where too small."""
    count, channels, height, width = shape
    photographs = [each if channels != _GREY else _grey(each) for each in load_sample_images().images]
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        high, wide = min(height, photograph.shape[0]), min(width, photograph.shape[1])
        left, top = rng.integers(photograph.shape[1] - wide + 1), rng.integers(photograph.shape[0] - high + 1)
        rows, columns = top + np.arange(height) * high // height, left + np.arange(width) * wide // width
        found.append(photograph[np.ix_(rows, columns)].transpose(2, 0, 1))
    return as_floats(np.stack(found))


def _grey(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How light each pixel is, (H, W, 3) to (H, W, 1), by the weights of ITU-R BT.601."""
    # In 65,536ths: whole numbers are the same on every machine.
    light = photograph.astype(np.int64) @ np.array([19_595, 38_470, 7_471])
    return np.asarray((light[..., None] + 32_768) >> 16, dtype=np.uint8)


def _shuffled(image: Pixels, rng: np.random.Generator) -> Pixels:
    """An image (C, H, W) whose pieces change places; what is left over at the edges stays where it is."""
    _, height, width = image.shape
    high, wide = height // _SQUARES, width // _SQUARES
    places = [(high * row, wide * column) for row in range(_SQUARES) for column in range(_SQUARES)]
    found = image.copy()
    for (row, column), place in zip(places, rng.permutation(len(places)), strict=True):
        top, left = places[place]
        found[:, row : row + high, column : column + wide] = image[:, top : top + high, left : left + wide]
    return found
