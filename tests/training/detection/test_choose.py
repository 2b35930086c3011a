"""Strengths are chosen by what is left right of validation images."""

from collections.abc import Sequence

import pytest

from detector.rates import Rate
from tests.training.detection.conftest import rate
from training.attacks import FGSM, Attack
from training.detection.choose import choose

LADDER = [FGSM(eps=eps) for eps in (0.1, 0.2, 0.3)]


class Left:
    """What the strengths leave of each run, in percent; remembers which were measured."""

    def __init__(self, *shares: Sequence[int]) -> None:
        self.shares, self.asked = dict(zip((attack.name for attack in LADDER), shares, strict=True)), list[str]()

    def __call__(self, attack: Attack) -> list[Rate]:
        self.asked.append(attack.name)
        return [rate(share / 100) for share in self.shares[attack.name]]


@pytest.mark.parametrize(
    ("shares", "eps", "reached", "asked"),
    [
        (([0], [0], [0]), 0.1, True, 1),
        (([5], [1], [0]), 0.2, True, 2),
        (([2, 0], [0, 2], [1, 0]), 0.3, True, 3),
        (([9], [4], [6]), 0.2, False, 3),
        (([4], [4], [4]), 0.1, False, 3),
        (([0, 9], [5, 5], [2, 6]), 0.2, False, 3),
    ],
    ids=["the weakest", "at 1 %", "every run counts", "none reaches it", "a tie", "of the run that holds out best"],
)
def test_the_weakest_that_leaves_one_percent_or_else_the_one_that_leaves_least(
    shares: tuple[list[int], ...], eps: float, reached: bool, asked: int
) -> None:
    left = Left(*shares)
    choice = choose(LADDER, left)
    assert (choice.attack, choice.reached) == (FGSM(eps=eps), reached)
    assert left.asked == [rung.name for rung in choice.tried] == [attack.name for attack in LADDER[:asked]]
    assert choice.rung.name == choice.attack.name
