"""Images of none of the classes: what they are made of, and that they are the same on every machine."""

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from training.detection.strangers import strangers

RNG = np.random.default_rng(11)
IMAGES = RNG.random((6, 3, 10, 8), dtype=np.float32)
KINDS = ["pieces of photographs", "test images, shuffled in 4 x 4 pieces", "uniform noise"]


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (5, 3, 32, 32), (2, 3, 700, 500)], ids=["grey", "colour", "large"])
def test_as_many_of_each_kind_as_clean_ones_and_always_the_same(shape: tuple[int, ...]) -> None:
    images = np.zeros(shape, np.float32)
    found, again, other = strangers(images, 0), strangers(images, 0), strangers(images, 1)
    assert list(found) == KINDS
    for kind, each in found.items():
        assert each.shape == shape
        assert each.dtype == np.float32
        assert each.min() >= 0
        assert each.max() <= 1
        np.testing.assert_array_equal(each, again[kind])
    assert (found["uniform noise"] != other["uniform noise"]).any()


def test_a_piece_is_cut_out_of_one_of_the_photographs() -> None:
    photographs = load_sample_images().images
    pieces = np.rint(strangers(IMAGES[:2], 0)["pieces of photographs"] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    for number, piece in enumerate(pieces):
        windows = np.lib.stride_tricks.sliding_window_view(photographs[number % 2], piece.shape)
        assert (windows == piece).all(axis=(3, 4, 5)).any()


def test_pieces_that_change_places_keep_their_pixels_and_what_is_left_over_stays() -> None:
    for image, found in zip(IMAGES, strangers(IMAGES, 0)[KINDS[1]], strict=True):
        np.testing.assert_array_equal(found[:, 8:], image[:, 8:])  # 10 rows are four pieces of 2, and 2 rows more
        before, after = (
            sorted(
                each[:, row : row + 2, column : column + 2].tobytes()
                for row in range(0, 8, 2)
                for column in range(0, 8, 2)
            )
            for each in (image, found)
        )
        assert before == after
        assert (found != image).any()
