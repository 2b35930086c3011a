"""The test of moved scores against all ways to deal them out, SciPy, and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp, mannwhitneyu

from detector.errors import InputError
from detector.movement import Movement

GENERATOR = np.random.default_rng(0)


def gap(one: np.ndarray, two: np.ndarray) -> float:
    """The largest gap between two cumulative distributions, point by point."""
    return max(float(abs(np.mean(one <= point) - np.mean(two <= point))) for point in [*one, *two])


def dealt(then: np.ndarray, now: np.ndarray) -> float:
    """The p-value, by dealing the scores out in all ways."""
    pooled, found = np.concatenate([then, now]), gap(then, now)
    gaps = []
    for chosen in combinations(range(len(pooled)), len(then)):
        mask = np.isin(np.arange(len(pooled)), chosen)
        gaps.append(gap(pooled[mask], pooled[~mask]))
    return float(np.mean(np.array(gaps) >= found - 1e-12))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (3, 7), (6, 5)])
def test_exact_against_all_ways_to_deal(n: int, m: int) -> None:
    generator = np.random.default_rng(n)
    then, now = generator.normal(size=n), generator.normal(0.7, size=m)
    found = Movement.of(then, now)
    assert found.exact
    assert found.statistic == pytest.approx(gap(then, now), abs=1e-12)
    assert found.p_value == pytest.approx(dealt(then, now), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_against_scipy(shift: float) -> None:
    then, now = GENERATOR.normal(size=300), GENERATOR.normal(shift, size=200)
    found, expected = Movement.of(then, now), ks_2samp(then, now, method="exact")
    assert (found.statistic, found.p_value) == (expected.statistic, expected.pvalue)
    u = mannwhitneyu(then, now).statistic
    assert found.auc.value == pytest.approx(u / (300 * 200), abs=1e-12)


@pytest.mark.parametrize("values", [2, 5], ids=["two values", "five values"])
def test_with_ties_the_p_value_is_never_too_small(values: int) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        then, now = generator.integers(values, size=5).astype(float), generator.integers(values, size=5).astype(float)
        assert Movement.of(then, now).p_value >= dealt(then, now) - 1e-9


def test_scores_that_have_not_moved_are_rarely_said_to_have() -> None:
    moved = [Movement.of(GENERATOR.normal(size=60), GENERATOR.normal(size=40), delta=0.1).moved for _ in range(300)]
    # At most a tenth; 300 trials exceed 0.15 with probability 0.003 where it is just that.
    assert np.mean(moved) <= 0.15
    assert any(moved)


def test_a_movement_is_found_with_its_direction() -> None:
    then = GENERATOR.normal(size=400)
    lower, higher = Movement.of(then, then - 0.5), Movement.of(then, then + 0.5)
    assert lower.moved
    assert lower.auc.low > 0.5
    assert lower.direction.startswith("lower: today's images look more suspicious")
    assert higher.moved
    assert higher.auc.high < 0.5
    assert higher.direction.startswith("higher")


def test_a_change_of_spread_alone_is_found() -> None:
    then = GENERATOR.normal(size=1000)
    found = Movement.of(then - then.mean(), 3 * (then - then.mean()))
    assert found.moved
    assert found.auc.low < 0.5 < found.auc.high
    assert found.direction.startswith("neither")


def test_minus_infinity_is_the_lowest_score() -> None:
    then = np.array([-np.inf, -np.inf, -3.0, -2.0, -1.0])
    now = np.array([-np.inf, -3.5, -2.5, -0.5])
    assert Movement.of(then, now) == Movement.of(np.maximum(then, -1e9), np.maximum(now, -1e9))


def test_beyond_ten_thousand_the_limit() -> None:
    then, now = GENERATOR.normal(size=10_001), GENERATOR.normal(size=5000)
    found = Movement.of(then, now)
    assert not found.exact
    assert found.p_value == ks_2samp(then, now, method="asymp").pvalue
    assert Movement.of(then[:-1], now).exact


def test_one_score_a_day_tells_little() -> None:
    found = Movement.of(np.arange(10.0), np.array([-5.0]))
    assert found.p_value == pytest.approx(2 / 11)
    assert not found.moved


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        ([], [1.0], "scores: expected some of then and of now, found 0 and 1"),
        ([1.0], [], "found 1 and 0"),
        ([1.0], [float("nan")], "scores: expected numbers, found nan"),
    ],
)
def test_refusals(then: list[float], now: list[float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Movement.of(np.array(then), np.array(now))
