"""Shares and AUC against known values, scikit-learn and a count of all pairs; intervals in simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from detector.errors import InputError
from detector.rates import Auc, Rate, curve, tpr_at

Floats = NDArray[np.float64]


def pairs(clean: Floats, attacked: Floats) -> float:
    """Share of pairs in which the attacked input scores lower, ties counted half."""
    wins = sum(1.0 if a < c else 0.5 if a == c else 0.0 for c in clean for a in attacked)
    return wins / (len(clean) * len(attacked))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.308498),
        (10, 10, 0.691503, 1.0),
        (1, 10, 0.002529, 0.445016),
        (5, 100, 0.016432, 0.112835),
        (50, 100, 0.398321, 0.601679),
    ],
)
def test_rate_with_the_exact_interval(hits: int, n: int, low: float, high: float) -> None:
    """Clopper-Pearson, as tables have it."""
    rate = Rate.of(np.arange(n) < hits)
    assert (rate.count, rate.n, rate.rate) == (hits, n, hits / n)
    assert rate.low == pytest.approx(low, abs=2e-6)
    assert rate.high == pytest.approx(high, abs=2e-6)


def test_texts() -> None:
    assert str(Rate.of(np.arange(100) < 5)) == "5.0 % (1.6 to 11.3)"
    assert str(Auc(value=0.9512, low=0.9321, high=0.9644)) == "0.951 (0.932 to 0.964)"


def test_nothing_to_count() -> None:
    with pytest.raises(InputError, match="rate: expected at least one input, found none"):
        Rate.of(np.zeros(0, dtype=np.bool_))
    for clean, attacked in ((0, 3), (3, 0)):
        with pytest.raises(InputError, match=f"AUC: expected clean and attacked .*, found {clean} and {attacked}"):
            Auc.of(np.zeros(clean), np.zeros(attacked))


@pytest.mark.parametrize("shift", [-3.0, -1.0, 0.0, 1.0, 3.0])
def test_auc_against_scikit_learn(shift: float) -> None:
    generator = np.random.default_rng(0)
    clean, attacked = generator.normal(size=70), generator.normal(shift, size=50)
    expected = roc_auc_score(np.r_[np.zeros(70), np.ones(50)], -np.r_[clean, attacked])
    assert Auc.of(clean, attacked).value == pytest.approx(expected, abs=1e-12)
    assert Auc.of(clean, attacked).value == pytest.approx(pairs(clean, attacked), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auc_with_ties_and_minus_infinity(seed: int) -> None:
    generator = np.random.default_rng(seed)
    clean = generator.choice([-np.inf, -2.0, -1.0, -0.5, 0.0], p=[0.1, 0.1, 0.2, 0.3, 0.3], size=60)
    attacked = generator.choice([-np.inf, -2.0, -1.0, -0.5, 0.0], p=[0.4, 0.3, 0.1, 0.1, 0.1], size=40)
    assert Auc.of(clean, attacked).value == pytest.approx(pairs(clean, attacked), abs=1e-12)


def test_only_the_order_counts() -> None:
    generator = np.random.default_rng(1)
    clean, attacked = -generator.random(50), -generator.random(40) - 0.2
    one, two = Auc.of(clean, attacked), Auc.of(-np.exp(-clean), -np.exp(-attacked))
    assert one == two


@pytest.mark.parametrize(
    ("clean", "attacked", "value"),
    [
        (np.zeros(20), np.full(20, -np.inf), 1.0),
        (np.full(20, -np.inf), np.zeros(20), 0.0),
        (np.full(20, -np.inf), np.full(30, -np.inf), 0.5),
        (np.zeros(1), np.full(1, -1.0), 1.0),
        (np.zeros(2000), np.full(2000, -1.0), 1.0),
    ],
)
def test_intervals_at_the_ends_are_no_points(clean: Floats, attacked: Floats, value: float) -> None:
    auc = Auc.of(clean, attacked)
    assert auc.value == value
    assert 0 <= auc.low <= value <= auc.high <= 1
    assert auc.high - auc.low > 1 / (len(clean) + len(attacked))


def test_below_one_half_is_reported_as_it_is() -> None:
    """An attack that looks more honest than honest inputs; the interval is the mirror image's."""
    generator = np.random.default_rng(2)
    clean, attacked = generator.normal(size=80), generator.normal(1.0, size=60)
    found, mirrored = Auc.of(clean, attacked), Auc.of(-clean, -attacked)
    assert found.high < 0.5
    assert found.value == pytest.approx(1 - mirrored.value, abs=1e-12)
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    assert found.high == pytest.approx(1 - mirrored.low, abs=1e-9)


def test_more_inputs_make_a_narrower_interval() -> None:
    widths = []
    for n in (20, 80, 320):
        generator = np.random.default_rng(3)
        auc = Auc.of(generator.normal(size=n), generator.normal(-1.0, size=n))
        assert auc.low < auc.value < auc.high
        widths.append(auc.high - auc.low)
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


@pytest.mark.parametrize(("clean", "attacked", "shift"), [(40, 40, 1.0), (100, 25, 2.0), (30, 60, 0.0)])
def test_intervals_cover_the_truth(clean: int, attacked: int, shift: float) -> None:
    """For normal scores the true area is Phi(shift / sqrt 2); 95 % within three standard deviations of the count."""
    from scipy.stats import norm

    truth, runs = float(norm.cdf(shift / np.sqrt(2))), 150
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(runs):
        auc = Auc.of(generator.normal(size=clean), generator.normal(-shift, size=attacked))
        covered += auc.low <= truth <= auc.high
    assert 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs) <= covered / runs <= 1.0 - 1 / runs


@pytest.mark.parametrize("infinite", [False, True])
def test_the_curve_runs_from_corner_to_corner(infinite: bool) -> None:
    generator = np.random.default_rng(5)
    clean, attacked = generator.normal(size=90).round(1), generator.normal(-1, size=70).round(1)
    if infinite:
        clean[:5], attacked[:30] = -np.inf, -np.inf
    fpr, tpr = curve(clean, attacked)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(Auc.of(clean, attacked).value, abs=1e-12)
    reachable = {((clean <= t).mean(), (attacked <= t).mean()) for t in [*clean, *attacked]} | {(0.0, 0.0)}
    assert set(zip(fpr, tpr, strict=True)) <= reachable


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fpr", [0.0, 0.001, 0.02, 0.05, 0.5, 1.0])
def test_detection_at_a_rate_is_a_maximum_over_real_points(fpr: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    clean = generator.choice([-np.inf, -2.0, -1.0, 0.0, 0.5, np.inf], size=100)
    attacked = generator.choice([-np.inf, -2.0, -1.5, -1.0, 0.0, np.inf], size=30)
    points = [-np.inf, *np.nextafter(np.concatenate([clean, attacked]), np.inf)]
    expected = max((attacked < t).mean() for t in points if (clean < t).mean() <= fpr)
    # A threshold above plus infinity is none: those can be flagged by no rule, unless all are.
    assert tpr_at(clean, attacked, fpr) == (1.0 if fpr == 1.0 else pytest.approx(expected))


def test_detection_at_a_rate_needs_both() -> None:
    with pytest.raises(InputError, match="TPR: expected clean and attacked inputs, found 0 and 2"):
        tpr_at(np.zeros(0), np.zeros(2), 0.1)


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="scores: expected numbers, found nan"):
        Auc.of(np.array([0.0, np.nan]), np.zeros(2))
    with pytest.raises(InputError, match="found nan"):
        curve(np.zeros(2), np.array([np.nan]))
