"""On how many test images attacks are measured: as many as in the paper, or as a CPU can bear."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch

from training.attacks import JSMA, Attack, LinfAttack
from training.attacks.attack import check_count
from training.attacks.minimum import MinimumAttack


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Images for each kind of attack; fewer where there are fewer.

    Attributes:
        linf: FGSM, BIM, PGD and MIM, and the transfer matrices.
        minimum: C&W and EAD.
        jsma: JSMA.
        strong: AutoAttack and the attack that knows the detector.

    Raises:
        InputError: Fewer than one.
    """

    linf: int
    minimum: int
    jsma: int
    strong: int

    def __post_init__(self) -> None:
        for field in fields(self):
            check_count(f"images-{field.name}", getattr(self, field.name))

    @classmethod
    def on(cls, device: torch.device) -> "Counts":
        """The paper's numbers on a GPU, which has none for strong attacks; on a CPU what takes about an hour a run."""
        return PAPER if device.type == "cuda" else QUICK

    def but(self, given: Mapping[str, int | None]) -> "Counts":
        """With other numbers for those that are not None."""
        return replace(self, **{name: count for name, count in given.items() if count is not None})

    def of(self, attack: Attack) -> int:
        """For an attack."""
        count: int = getattr(self, kind_of(attack))
        return count


def kind_of(attack: Attack) -> str:
    """The field of `Counts` that an attack belongs to."""
    match attack:
        case LinfAttack():
            return "linf"
        case MinimumAttack():
            return "minimum"
        case JSMA():
            return "jsma"
    return "strong"


PAPER = Counts(linf=10_000, minimum=1_000, jsma=100, strong=1_000)
QUICK = Counts(linf=500, minimum=30, jsma=30, strong=50)
