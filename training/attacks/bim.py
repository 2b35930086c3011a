"""The basic iterative method: small steps from the clean image."""

from dataclasses import dataclass
from typing import ClassVar

from training.attacks.linf import IteratedAttack


@dataclass(frozen=True, kw_only=True)
class BIM(IteratedAttack):
    """Steps along the sign of the gradient, each projected into the ball, Section 2.2 of the paper.

    Source: Kurakin, Goodfellow and Bengio, "Adversarial Examples in the Physical World", 2017.
    Attributes and errors: see `IteratedAttack`.
    """

    method: ClassVar[str] = "bim"
