"""White-box attacks, one per file; `attack` says what they share, `objective` what they aim at.

docs/attacks.md says what each one is, and why it is ours or a library's.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from training.attacks.attack import Attack, Progress
from training.attacks.bim import BIM
from training.attacks.fgsm import FGSM
from training.attacks.linf import IteratedAttack, LinfAttack
from training.attacks.mim import MIM
from training.attacks.objective import AsInPaper, Objective, Targeted, Untargeted
from training.attacks.pgd import PGD

__all__ = [
    "ATTACKS",
    "BIM",
    "FGSM",
    "MIM",
    "PGD",
    "AsInPaper",
    "Attack",
    "IteratedAttack",
    "LinfAttack",
    "Objective",
    "Progress",
    "Targeted",
    "Untargeted",
]

ATTACKS: Final[Mapping[str, type[Attack]]] = MappingProxyType(
    {attack.method: attack for attack in (BIM, FGSM, MIM, PGD)}
)
