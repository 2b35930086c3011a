"""The fast gradient sign method: one step of eps."""

from dataclasses import dataclass
from typing import ClassVar

from training.attacks.linf import LinfAttack


@dataclass(frozen=True, kw_only=True)
class FGSM(LinfAttack):
    """x + eps * sign(grad loss), Section 2.2 of the paper.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.

    Raises:
        InputError: eps outside (0, 1].
    """

    method: ClassVar[str] = "fgsm"

    @property
    def name(self) -> str:
        """Method and radius, as in `fgsm-0.1`."""
        return f"{self.method}-{self.eps:g}"

    @property
    def iterations(self) -> int:
        """One step."""
        return 1

    @property
    def stride(self) -> float:
        """All the way at once."""
        return self.eps
