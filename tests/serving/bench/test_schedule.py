"""Arrival times are a Poisson process: exponential gaps that know nothing of one another."""

import itertools

import numpy as np
import pytest
from scipy import stats

from serving.bench.schedule import poisson

COUNT = 20_000


def gaps(rate: float, seed: int) -> np.ndarray:
    times = list(itertools.islice(poisson(rate, seed), COUNT))
    return np.diff(times, prepend=0.0)


@pytest.mark.parametrize("rate", [0.5, 200.0, 5000.0])
def test_gaps_are_exponential(rate: float) -> None:
    assert stats.kstest(gaps(rate, 0), stats.expon(scale=1 / rate).cdf).pvalue > 0.01


def test_the_rate_is_kept() -> None:
    # The mean of so many gaps is within four standard errors.
    assert gaps(200.0, 1).mean() == pytest.approx(1 / 200, rel=4 / np.sqrt(COUNT))


def test_gaps_do_not_know_one_another() -> None:
    """Also across the chunks in which they are drawn."""
    found = gaps(200.0, 2)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / np.sqrt(COUNT)


def test_arrivals_in_a_second_are_spread_as_poisson_says() -> None:
    times = np.cumsum(gaps(50.0, 3))
    counts = np.bincount(times.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / len(counts)))


def test_times_grow() -> None:
    assert (gaps(200.0, 4) > 0).all()


def test_a_seed_gives_the_same_times_and_another_others() -> None:
    np.testing.assert_array_equal(gaps(200.0, 5), gaps(200.0, 5))
    assert not np.allclose(gaps(200.0, 5), gaps(200.0, 6))
