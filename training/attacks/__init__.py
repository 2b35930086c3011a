"""White-box attacks, one per file; see `linf` for what they share and promise."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from training.attacks.bim import BIM
from training.attacks.fgsm import FGSM
from training.attacks.linf import IteratedAttack, LinfAttack, climb
from training.attacks.loss import ensemble_loss
from training.attacks.pgd import PGD

__all__ = ["ATTACKS", "BIM", "FGSM", "PGD", "IteratedAttack", "LinfAttack", "climb", "ensemble_loss"]

ATTACKS: Final[Mapping[str, type[LinfAttack]]] = MappingProxyType(
    {attack.method: attack for attack in (BIM, FGSM, PGD)}
)
