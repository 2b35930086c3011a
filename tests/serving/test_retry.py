"""Retry: its numbers, its pauses, and its budget against a slow obvious twin."""

import random
from typing import Any

import pytest

from detector.errors import (
    DeadlineExceeded,
    InputError,
    Internal,
    LedgateError,
    NotFound,
    QueueFull,
    ResourceExhausted,
    Unavailable,
)
from serving.retry import Budget, Retry, may_be_repeated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unavailable("x"), True),
        (QueueFull("x"), True),
        (ResourceExhausted("x"), False),
        (DeadlineExceeded("x"), False),
        (InputError("x"), False),
        (NotFound("x"), False),
        (Internal("x"), False),
    ],
)
def test_what_may_succeed_later_is_repeated(error: LedgateError, *, expected: bool) -> None:
    assert may_be_repeated(error) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 0),
        ("initial_s", -0.1),
        ("initial_s", float("nan")),
        ("multiplier", 0.5),
        ("multiplier", 101.0),
        ("max_s", 0.05),
        ("max_s", float("inf")),
        ("budget", -1.0),
        ("budget", float("inf")),
        ("refill", float("nan")),
    ],
)
def test_a_number_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: expected .*, found {value}$"):
        Retry(**{name: value})


def test_pauses_grow_to_their_longest_and_are_spread_from_zero() -> None:
    retry = Retry(initial_s=0.1, multiplier=3.0, max_s=1.0)
    random.seed(0)
    for number, longest_s in ((1, 0.1), (2, 0.3), (3, 0.9), (4, 1.0), (1000, 1.0)):
        pauses = [retry.pause_s(number) for _ in range(2000)]
        assert 0 <= min(pauses) < 0.01 * longest_s
        assert 0.99 * longest_s < max(pauses) <= longest_s
        assert sum(pauses) / len(pauses) == pytest.approx(longest_s / 2, rel=0.05)


@pytest.mark.parametrize("most", [0.0, 1.0, 2.0, 5.0, 10.0])
def test_the_budget_is_that_of_grfc_a6(most: float) -> None:
    budget = Budget(Retry(budget=most, refill=0.25))
    tokens = most
    steps = random.Random(1)
    for _ in range(500):
        if steps.random() < 0.6:
            tokens = min(most, tokens + 0.25)
            budget.answered()
        else:
            tokens = max(0.0, tokens - 1)
            assert budget.failed() is (tokens > most / 2)


def test_without_a_budget_there_is_no_bound() -> None:
    budget = Budget(Retry(budget=None))
    assert all(budget.failed() for _ in range(10_000))
