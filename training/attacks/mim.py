"""The momentum iterative method: steps along the sign of a gradient that remembers earlier ones."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from training.attacks.attack import check_not_negative
from training.attacks.linf import IteratedAttack


@dataclass(frozen=True, kw_only=True)
class MIM(IteratedAttack):
    """g <- decay * g + gradient / its L1 norm; x <- project(x + step * sign(g)), Section 2.2 of the paper.

    Source: Dong et al., "Boosting Adversarial Attacks with Momentum", 2018.
    Other attributes and errors: see `IteratedAttack`.

    Attributes:
        decay: How much of the momentum is kept from step to step, at least 0; 1 in the source.
    """

    method: ClassVar[str] = "mim"

    decay: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("decay", self.decay)

    @property
    def name(self) -> str:
        """As in `mim10-0.1`; the decay where it is not the source's."""
        return super().name if self.decay == 1 else f"{super().name}-decay{self.decay:g}"

    def direction(self, slope: Tensor, memory: Tensor | None) -> Tensor:
        """The momentum."""
        norms = slope.abs().sum(dim=(1, 2, 3), keepdim=True)
        unit = slope / norms.where(norms > 0, 1)
        return unit if memory is None else self.decay * memory + unit
