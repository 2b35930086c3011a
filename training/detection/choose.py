"""How strong an attack is: the weakest that leaves at most 1 % right, on validation images of every run compared.

By what it leaves right, and by nothing else: how well it is detected is not looked at, and test images are not. All
runs of an experiment are attacked alike, so that a difference between them is theirs and not the attack's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from detector.document import Record
from detector.rates import Rate
from training.attacks import Attack

LEFT: Final = 0.01


class Rung(Record):
    """What a strength leaves right on validation images.

    Attributes:
        name: Of the attack with its strength.
        right: One for each run.
    """

    name: str
    right: tuple[Rate, ...]

    @property
    def most(self) -> float:
        """The share that it leaves right of the run that holds out best."""
        return max(rate.rate for rate in self.right)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A strength.

    Attributes:
        attack: The attack with it.
        reached: Whether it leaves at most 1 % right; where none does, it is the one that leaves least.
        tried: Every strength that was tried, the weakest first.
    """

    attack: Attack
    reached: bool
    tried: tuple[Rung, ...]

    @property
    def rung(self) -> Rung:
        """What it left of validation images."""
        return next(rung for rung in self.tried if rung.name == self.attack.name)


def choose(ladder: Sequence[Attack], measure: Callable[[Attack], Sequence[Rate]]) -> Choice:
    """Goes up a ladder until at most 1 % is left right everywhere.

    Args:
        ladder: Strengths, the weakest first.
        measure: What an attack leaves right on validation images, one share for each run.
    """
    tried: list[Rung] = []
    for attack in ladder:
        tried.append(Rung(name=attack.name, right=tuple(measure(attack))))
        if tried[-1].most <= LEFT:
            return Choice(attack=attack, reached=True, tried=tuple(tried))
    least = min(range(len(tried)), key=lambda place: tried[place].most)
    return Choice(attack=ladder[least], reached=False, tried=tuple(tried))
