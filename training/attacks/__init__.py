"""White-box attacks, one per file; `attack` says what they share, `objective` what they aim at.

docs/attacks.md says what each one is, and why it is ours or a library's.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from training.attacks.attack import Attack, Progress
from training.attacks.auto import AutoAttack
from training.attacks.aware import DetectorAware
from training.attacks.bim import BIM
from training.attacks.carlini_wagner import CarliniWagner
from training.attacks.ead import EAD, DecisionRule
from training.attacks.fgsm import FGSM
from training.attacks.jsma import JSMA
from training.attacks.jsma_pairs import JSMAPairs
from training.attacks.linf import IteratedAttack, LinfAttack
from training.attacks.mim import MIM
from training.attacks.minimum import MinimumAttack
from training.attacks.objective import AsInPaper, Objective, Targeted, Untargeted
from training.attacks.pgd import PGD
from training.attacks.saliency import SaliencyAttack

__all__ = [
    "ATTACKS",
    "BIM",
    "EAD",
    "FGSM",
    "JSMA",
    "MIM",
    "PGD",
    "AsInPaper",
    "Attack",
    "AutoAttack",
    "CarliniWagner",
    "DecisionRule",
    "DetectorAware",
    "IteratedAttack",
    "JSMAPairs",
    "LinfAttack",
    "MinimumAttack",
    "Objective",
    "Progress",
    "SaliencyAttack",
    "Targeted",
    "Untargeted",
]

ATTACKS: Final[Mapping[str, type[Attack]]] = MappingProxyType(
    {attack.method: attack for attack in (AutoAttack, BIM, CarliniWagner, EAD, FGSM, JSMA, JSMAPairs, MIM, PGD)}
)
