"""The check of a promise against sums of binomial probabilities, tables, and simulation."""

from math import comb

import numpy as np
import pytest

from detector.errors import InputError
from detector.keeping import Finding, Keeping, images_to_tell, power


def keeping(k: int, n: int, bound: float = 0.05, delta: float = 0.05) -> Keeping:
    return Keeping.of("clean flagged", np.arange(n) < k, bound, delta)


def tail(k: int, n: int, share: float) -> float:
    """The probability of k or more, term by term."""
    return sum(comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize(("k", "n", "bound"), [(0, 10, 0.1), (3, 40, 0.05), (17, 200, 0.05), (9, 9, 0.5), (1, 1, 0.3)])
def test_against_the_sum_of_probabilities(k: int, n: int, bound: float) -> None:
    found = keeping(k, n, bound)
    assert found.p_value == pytest.approx(tail(k, n, bound), rel=1e-10)
    assert (found.finding is Finding.BROKEN) == (tail(k, n, bound) <= 0.05)
    if k:  # the Clopper-Pearson bounds are the shares at which the tails are delta
        assert tail(k, n, found.low) == pytest.approx(0.05, rel=1e-8)
    if k < n:
        assert 1 - tail(k + 1, n, found.high) == pytest.approx(0.05, rel=1e-8)


def test_one_sided_bounds_as_tables_have_them() -> None:
    """5 of 100: the two-sided 90 % interval of tables; 0 of 59: the rule of three, exact."""
    assert keeping(5, 100).low == pytest.approx(0.01991, abs=1e-5)
    assert keeping(5, 100).high == pytest.approx(0.10225, abs=1e-5)
    assert keeping(0, 59).high == pytest.approx(0.0495, abs=1e-4)
    assert (keeping(0, 9).low, keeping(9, 9).high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("k", "n", "finding"),
    [
        (0, 58, Finding.TOO_FEW),  # the rule of three: 59 without one show 5 %
        (0, 59, Finding.KEPT),
        (5, 100, Finding.TOO_FEW),
        (10, 100, Finding.BROKEN),
        (20, 500, Finding.CONSISTENT),
        (16, 500, Finding.KEPT),
        (35, 500, Finding.BROKEN),
        (1, 1, Finding.BROKEN),  # p is just delta
    ],
)
def test_findings(k: int, n: int, finding: Finding) -> None:
    assert keeping(k, n).finding is finding


def test_the_worst_finding_comes_first() -> None:
    assert list(Finding) == [Finding.BROKEN, Finding.TOO_FEW, Finding.CONSISTENT, Finding.KEPT]


@pytest.mark.parametrize(
    ("k", "bound", "finding"), [(0, 0.0, Finding.CONSISTENT), (1, 0.0, Finding.BROKEN), (5, 1.0, Finding.KEPT)]
)
def test_bounds_at_the_ends(k: int, bound: float, finding: Finding) -> None:
    """A bound of 0 is broken by the first that goes wrong, and none of five shows nothing; a bound of 1 by none."""
    found = keeping(k, 5, bound)
    assert (found.finding, found.enough) == (finding, 0)


@pytest.mark.parametrize("bound", [0.01, 0.05, 0.2])
def test_a_promise_just_kept_is_called_broken_in_at_most_delta_of_checks(bound: float) -> None:
    """All outcomes of 300 images are counted, so there is no luck in it."""
    probabilities = [tail(k, 300, bound) - tail(k + 1, 300, bound) for k in range(301)]
    broken = [keeping(k, 300, bound).finding is Finding.BROKEN for k in range(301)]
    wrong = sum(probability for probability, one in zip(probabilities, broken, strict=True) if one)
    assert 0 < wrong <= 0.05


def test_simulated_checks() -> None:
    generator = np.random.default_rng(0)
    broken = np.array([keeping(k, 400).finding is Finding.BROKEN for k in range(100)])
    for share, low, high in ((0.05, 0.0, 0.05), (0.03, 0.0, 0.01), (0.1, 0.93, 1.0)):
        assert low <= broken[generator.binomial(400, share, size=1000)].mean() <= high


@pytest.mark.parametrize("bound", [0.001, 0.01, 0.05, 0.3, 0.8])
def test_images_to_tell(bound: float) -> None:
    n = images_to_tell(bound, 0.05)
    grown = min(2 * bound, (1 + bound) / 2)
    assert power(n, bound, 0.05, grown) >= 0.95
    assert power(n - 1, bound, 0.05, grown) < 0.95


def test_power_against_the_sum() -> None:
    fewest = next(k for k in range(101) if tail(k, 100, 0.05) <= 0.05)
    assert power(100, 0.05, 0.05, 0.1) == pytest.approx(tail(fewest, 100, 0.1), rel=1e-10)


@pytest.mark.parametrize(
    ("n", "bound", "delta", "reason"),
    [
        (0, 0.1, 0.05, "rate: expected at least one input, found none"),
        (5, 1.1, 0.05, "bound: expected a share from 0 to 1, found 1.1"),
        (5, float("nan"), 0.05, "bound: expected a share from 0 to 1, found nan"),
        (5, 0.1, 0.0, "delta: expected a number between 0 and 1, found 0"),
    ],
)
def test_refusals(n: int, bound: float, delta: float, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        keeping(0, n, bound, delta)
