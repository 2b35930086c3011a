"""The digits, their parts, and samples of them."""

import dataclasses

import numpy as np
import pytest

from detector.errors import InputError
from detector.imageset import ImageSet
from detector.sample import sample
from training.datasets import Dataset, load
from training.splits import SPLITS, split_rows, take


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def test_digits(digits: Dataset) -> None:
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.images.dtype == np.float32
    assert digits.class_names == tuple("0123456789")
    # 17 steps of grey, exactly.
    assert set(np.unique(digits.images * 16)) == set(range(17))


def test_the_sizes_of_the_parts(digits: Dataset) -> None:
    rows = split_rows(digits)
    assert tuple(sorted(rows)) == tuple(sorted(SPLITS))
    assert {name: len(value) for name, value in rows.items()} == {
        "train": 989,
        "validation": 90,
        "calibration": 359,
        "test": 359,
    }


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_its_share(digits: Dataset, split: str) -> None:
    rows = split_rows(digits)[split]
    share = np.bincount(digits.labels[rows], minlength=10) / np.bincount(digits.labels)
    assert np.ptp(share) < 0.02


def test_the_split_depends_on_its_seed_alone(digits: Dataset) -> None:
    first, again, other = split_rows(digits), split_rows(digits), split_rows(digits, seed=1)
    assert all((first[name] == again[name]).all() for name in SPLITS)
    assert set(first["test"]) != set(other["test"])


def test_images_keep_the_row_they_came_from(digits: Dataset) -> None:
    test = take(digits, "test")
    assert test.source_index is not None
    assert test.labels is not None
    assert (test.images == digits.images[test.source_index]).all()
    assert (test.labels == digits.labels[test.source_index]).all()
    assert test.info == {"dataset": "digits", "split": "test"}


def test_an_unknown_part_is_refused(digits: Dataset) -> None:
    with pytest.raises(InputError, match="split: expected one of train, validation, calibration, test, found 'dev'"):
        take(digits, "dev")


def test_sample_takes_whole_rows_without_repeating(digits: Dataset) -> None:
    test = take(digits, "test")
    some = sample(dataclasses.replace(test, clean=test.images, success=np.ones(len(test), bool)), 50, seed=4)
    assert some.source_index is not None
    assert some.clean is not None
    assert len(set(some.source_index.tolist())) == len(some) == 50
    assert (some.images == digits.images[some.source_index]).all()
    assert (some.clean == some.images).all()
    again, other = sample(test, 50, seed=4), sample(test, 50, seed=5)
    assert again.source_index is not None
    assert other.source_index is not None
    assert (some.source_index == again.source_index).all()
    assert (some.source_index != other.source_index).any()


@pytest.mark.parametrize("n", [0, 4])
def test_sample_refuses_more_than_there_are(n: int) -> None:
    with pytest.raises(InputError, match=f"n: expected 1 to 3 images, found {n}"):
        sample(ImageSet(images=np.zeros((3, 1, 2, 2), np.uint8)), n)
