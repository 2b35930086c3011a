"""Uniform numbers that belong to an image."""

import numpy as np
import torch
from scipy.stats import kstest

from training.attacks.draws import uniform

IMAGES = torch.zeros(50, 3, 8, 8)


def numbers(rows: list[int], seed: int = 0, purpose: str = "tests") -> torch.Tensor:
    return uniform(IMAGES[: len(rows)], np.array(rows), seed=seed, purpose=purpose)


def test_they_are_uniform_and_no_two_rows_or_places_are_tied() -> None:
    drawn = numbers(list(range(50))).double().numpy().reshape(50, -1)
    assert -1 <= drawn.min() < -0.99
    assert 0.99 < drawn.max() < 1
    assert kstest(drawn.ravel(), "uniform", args=(-1, 2)).pvalue > 0.01
    # Neighbours in either direction, which a weak hash ties together.
    for first, second in ((drawn[:-1], drawn[1:]), (drawn[:, :-1], drawn[:, 1:])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_a_row_has_its_own_numbers_in_any_company() -> None:
    assert torch.equal(numbers([3, 8, 3])[0], numbers([3, 8, 3])[2])
    assert torch.equal(numbers([3, 8])[1:], numbers([8]))
    assert not torch.equal(numbers([3]), numbers([8]))


def test_seeds_and_purposes_differ() -> None:
    assert not torch.equal(numbers([0], seed=0), numbers([0], seed=1))
    assert not torch.equal(numbers([0]), numbers([0], purpose="others"))


def test_rows_of_one_seed_are_not_those_of_the_next_shifted() -> None:
    """As they would be, were row and seed added up."""
    drawn = numbers(list(range(50)), seed=0)
    others = numbers(list(range(50)), seed=1)
    assert not any(torch.equal(one, other) for one in drawn for other in others)
