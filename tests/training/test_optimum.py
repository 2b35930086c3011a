"""Eq. (7) both ways: the paper's figures, the objective itself, 50-digit arithmetic, and the ends."""

import json
import math

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from detector.errors import InputError
from ledgate.cli import main
from training.optimum import alpha_for, divides, optimum_of

COUNTS = [(2, 3), (3, 10), (5, 10), (5, 1000), (20, 100), (9, 10**9), (2, 2**53)]


@pytest.mark.parametrize(
    ("alpha", "members", "classes", "confidence"),
    [(2, 3, 10, 0.588), (2, 5, 10, 0.754), (0.61, 5, 1000, 0.900)],
)
def test_the_known_optima(alpha: float, members: int, classes: int, confidence: float) -> None:
    assert round(optimum_of(alpha, members=members, classes=classes).confidence, 3) == confidence


def test_the_papers_example() -> None:
    assert round(alpha_for(0.1, members=5, classes=1000), 2) == 0.61


@pytest.mark.parametrize(("alpha", "members", "classes"), [(2.0, 3, 10), (0.5, 2, 3), (8.0, 4, 7)])
def test_it_is_where_the_objective_is_least(alpha: float, members: int, classes: int) -> None:
    def objective(logits: np.ndarray) -> float:  # Eq. (6) with beta = 0, over the members' free predictions; y = 0
        log_f = log_softmax(logits.reshape(members, classes), axis=1)
        log_mean = logsumexp(log_f, axis=0) - math.log(members)
        return float(-log_f[:, 0].sum() + alpha * (np.exp(log_mean) * log_mean).sum())

    start = np.random.default_rng(0).normal(size=members * classes)
    found = np.exp(log_softmax(minimize(objective, start).x.reshape(members, classes), axis=1))
    expected = optimum_of(alpha, members=members, classes=classes)
    np.testing.assert_allclose(found[:, 0], expected.confidence, atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0)[1:], expected.smoothing / (classes - 1), atol=1e-4)


@pytest.mark.parametrize(("members", "classes"), COUNTS[:5])
@pytest.mark.parametrize("alpha", [0.05, 0.61, 2.0, 30.0])
def test_there_is_no_other_solution(alpha: float, members: int, classes: int) -> None:
    odds = np.linspace(-600, 600, 400_001)  # log(F / (1 - F)), dense at both ends of (0, 1)
    f = 1 / (1 + np.exp(-odds))
    above = f * (odds + math.log(classes - 1)) > members / alpha  # Eq. (7), the fractions cleared
    (crossing,) = np.flatnonzero(above[1:] != above[:-1])
    found = optimum_of(alpha, members=members, classes=classes)
    assert found.confidence > 1 / classes
    assert odds[crossing] <= math.log(found.confidence / found.smoothing) <= odds[crossing + 1]


@pytest.mark.parametrize(("members", "classes"), COUNTS)
@pytest.mark.parametrize("alpha", [0.05, 0.1, 2.0, 1e3, 1e9])
def test_it_is_right_to_the_last_digits(alpha: float, members: int, classes: int) -> None:
    found = optimum_of(alpha, members=members, classes=classes)
    with mpmath.workdps(250):  # at alpha 0.05 and K = 20 the smoothing is near 1e-172
        ratio, rest = mpmath.mpf(members) / mpmath.mpf(alpha), mpmath.mpf(classes - 1)
        low, high = mpmath.mpf(0), 2 * ratio + mpmath.log(rest)
        for _ in range(500):  # halving, for u = log(F (L - 1) / (1 - F))
            u = (low + high) / 2
            low, high = (u, high) if u / (1 + rest * mpmath.exp(-u)) < ratio else (low, u)
        confidence = 1 / (1 + rest * mpmath.exp(-u))
        assert abs(found.confidence / confidence - 1) < 1e-14
        # The exponential of a large number carries that number's rounding.
        assert float(abs(found.smoothing / (1 - confidence) - 1)) < 1e-15 * (10 + float(u))


@pytest.mark.parametrize(("members", "classes"), COUNTS)
@pytest.mark.parametrize("smoothing", [1e-300, 1e-12, 0.1, 0.5, 0.6])
def test_one_way_and_back(smoothing: float, members: int, classes: int) -> None:
    alpha = alpha_for(smoothing, members=members, classes=classes)
    assert optimum_of(alpha, members=members, classes=classes).smoothing == pytest.approx(smoothing, rel=1e-12)


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_near_the_greatest_smoothing_alpha_is_still_precise(classes: int) -> None:
    smoothing = math.nextafter((classes - 1) / classes, 0) - 1e-12
    with mpmath.workdps(60):
        s = mpmath.mpf(smoothing)
        expected = 2 / ((1 - s) * mpmath.log((1 - s) * (classes - 1) / s))
        assert abs(alpha_for(smoothing, members=2, classes=classes) / expected - 1) < 1e-14


def test_the_ends() -> None:
    assert alpha_for(0.0, members=3, classes=10) == 0
    certain = optimum_of(0.0, members=3, classes=10)
    assert (certain.confidence, certain.smoothing) == (1, 0)
    for tiny in (5e-324, 1e-300, 1e-5):
        almost = optimum_of(tiny, members=3, classes=10)
        assert (almost.confidence, almost.smoothing) == (1, 0)
    for huge in (1e18, 1.7e308):
        guess = optimum_of(huge, members=3, classes=10)
        assert (guess.confidence, guess.smoothing) == (0.1, 0.9)


@pytest.mark.parametrize(
    ("smoothing", "classes"),
    [(-0.1, 10), (1.0, 10), (math.nan, 10), (math.inf, 10), (0.9, 10), (0.95, 10), (2 / 3 + 1e-15, 3)],
)
def test_a_smoothing_that_no_alpha_gives_is_refused(smoothing: float, classes: int) -> None:
    with pytest.raises(InputError, match=r"smoothing: expected 0 or more, and less than \(L - 1\) / L = "):
        alpha_for(smoothing, members=2, classes=classes)


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf, -math.inf])
def test_an_alpha_that_is_no_weight_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="alpha: expected a finite number of at least 0, found "):
        optimum_of(alpha, members=3, classes=10)


@pytest.mark.parametrize(("members", "classes"), [(1, 10), (10, 10), (2, 2), (-3, 10), (2, 2**53 + 1), (2, 10**400)])
def test_counts_without_log_diversity_are_refused(members: int, classes: int) -> None:
    for question in (lambda: optimum_of(2.0, members=members, classes=classes),
                     lambda: alpha_for(0.1, members=members, classes=classes)):  # fmt: skip
        with pytest.raises(InputError, match=r"(members|classes): expected at "):
            question()


@pytest.mark.parametrize(
    ("members", "classes", "expected"), [(3, 10, True), (5, 10, False), (9, 10, True), (3, 100, True), (5, 1000, False)]
)
def test_which_members_share_the_other_classes_out(members: int, classes: int, *, expected: bool) -> None:
    assert divides(members, classes) is expected


@pytest.mark.parametrize(
    ("words", "figure", "divided"),
    [
        (["--members", "5", "--classes", "1000", "--smoothing", "0.1"], "0.61", "5 members do not divide 999 other"),
        (["--members", "3", "--classes", "10", "--alpha", "2"], "0.588", "3 members divide 9 other classes evenly"),
        (["--members", "3", "--classes", "10", "--alpha", "0"], "1", "3 members divide 9 other classes evenly"),
    ],
)
def test_the_command(words: list[str], figure: str, divided: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alpha", *words]) == 0
    first, _, last = capsys.readouterr().out.splitlines()
    assert first == figure
    assert last.startswith(divided)


def test_the_command_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alpha", "--members", "5", "--classes", "1000", "--smoothing", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "members": 5,
        "classes": 1000,
        "alpha": alpha_for(0.1, members=5, classes=1000),
        "confidence": 0.9,
        "smoothing": 0.1,
        "members_divide_other_classes": False,
    }


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alpha", "--members", "3", "--classes", "10", "--smoothing", "0.95"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ledgate alpha: smoothing: expected 0 or more, and less than (L - 1) / L = 0.9 for 10 ")
    assert err.count("\n") == 1
