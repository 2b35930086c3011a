"""Random numbers that belong to an image: uniform, and the same in any company."""

import numpy as np
import pytest
from scipy.stats import kstest

from detector.draws import hashed, units

ROWS, PLACES = np.arange(200), np.arange(50)


def test_numbers_are_uniform_and_below_1() -> None:
    numbers = units(ROWS, PLACES, seed=0, purpose="test")
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for view in (numbers.ravel(), numbers[:, 0], numbers[0]):
        assert kstest(view, "uniform").pvalue > 0.001


def test_neither_rows_nor_places_are_correlated() -> None:
    numbers = units(ROWS, PLACES, seed=0, purpose="test") - 0.5
    for first, second in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs((first * second).mean() * 12) < 4 / np.sqrt(first.size)


def test_a_number_depends_on_its_row_and_place_alone() -> None:
    whole = hashed(ROWS, PLACES, seed=3, purpose="test")
    rows, places = np.array([7, 7, 150]), np.array([40, 2])
    assert np.array_equal(hashed(rows, places, seed=3, purpose="test"), whole[np.ix_(rows, places)])
    assert len(np.unique(whole)) == whole.size


@pytest.mark.parametrize(("seed", "purpose"), [(1, "test"), (0, "other")])
def test_seeds_and_purposes_share_nothing(seed: int, purpose: str) -> None:
    first, second = hashed(ROWS, PLACES, seed=0, purpose="test"), hashed(ROWS, PLACES, seed=seed, purpose=purpose)
    assert not np.isin(first, second).any()


def test_rows_of_a_large_data_set_are_apart() -> None:
    rows = np.array([0, 2**31, 2**40, 2**62])
    assert len(np.unique(hashed(rows, PLACES, seed=0, purpose="test"))) == 200
