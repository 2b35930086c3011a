"""Percentiles from bins, against those from all values, sorted."""

from fractions import Fraction

import numpy as np
import pytest

from serving.bench.latencies import RELATIVE_ERROR, Latencies

PERCENTS = [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0]


def recorded(values: np.ndarray) -> Latencies:
    latencies = Latencies()
    for value in values.tolist():
        latencies.record(value)
    return latencies


def drawn(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "log-normal": rng.lognormal(-6, 1.5, 5000),
        "uniform": rng.uniform(1e-5, 2, 5000),
        "two heaps": np.concatenate([np.full(4950, 0.002), np.full(50, 3.0)]),
        "one": np.array([0.0123]),
        "a thousand": rng.exponential(0.01, 1000),
    }[name]


def slow_percentile(values: np.ndarray, percent: float) -> float:
    """The smallest value that so many percent of all do not exceed, in whole numbers of values."""
    wanted = Fraction(str(percent)) * len(values) / 100
    return float(next(value for rank, value in enumerate(np.sort(values), start=1) if rank >= wanted))


@pytest.mark.parametrize("percent", PERCENTS)
@pytest.mark.parametrize("name", ["log-normal", "uniform", "two heaps", "one", "a thousand"])
def test_percentiles_are_right_to_within_the_stated_error(name: str, percent: float) -> None:
    values = drawn(name)
    expected = slow_percentile(values, percent)
    assert recorded(values).percentile_s(percent) == pytest.approx(expected, rel=RELATIVE_ERROR * 1.0001)


def test_the_maximum_and_the_mean_are_exact() -> None:
    values = drawn("log-normal")
    latencies = recorded(values)
    assert latencies.percentile_s(100) == latencies.max_s == values.max()
    assert latencies.mean_s == pytest.approx(values.mean(), rel=1e-12)


def test_of_none_there_is_none() -> None:
    assert Latencies().percentile_s(50) is None
    assert Latencies().mean_s is None


@pytest.mark.parametrize("value", [-1e-9, 0.0, 1e-9, 1e9])
def test_what_lies_outside_the_bins_is_counted(value: float) -> None:
    latencies = recorded(np.array([value, 0.5, 0.5]))
    assert latencies.count == 3
    assert latencies.percentile_s(50) == pytest.approx(0.5, rel=RELATIVE_ERROR)


def test_merged_is_all_of_them() -> None:
    left, right = drawn("uniform"), drawn("log-normal")
    merged, whole = Latencies.merged([recorded(left), recorded(right)]), recorded(np.concatenate([left, right]))
    assert (merged.count, merged.max_s) == (whole.count, whole.max_s)
    assert merged.mean_s == pytest.approx(whole.mean_s)
    assert [merged.percentile_s(p) for p in PERCENTS] == [whole.percentile_s(p) for p in PERCENTS]
