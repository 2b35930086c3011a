"""The elastic-net attack: small changes of few values."""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from detector.errors import SettingError
from training.attacks.attack import check_not_negative
from training.attacks.minimum import Iterate, MinimumAttack


class DecisionRule(StrEnum):
    """By what the nearest of an image's candidates is chosen."""

    EN = "en"
    L1 = "l1"


@dataclass(frozen=True, kw_only=True)
class EAD(MinimumAttack):
    """Minimises |x' - x|_2^2 + beta * |x' - x|_1 + c * shortfall(x') within [0, 1], Section 2.2 of the paper.

    Without its L1 part it minimises what `CarliniWagner` does, in another way: iterative shrinkage with momentum,

        x_k+1 = shrink(y_k - rate_k * gradient(y_k)), y_k+1 = x_k+1 + k / (k + 3) * (x_k+1 - x_k),

    where shrink moves each value by beta towards the clean image, and those within beta of it back to it, and
    rate_k = learning_rate * sqrt(1 - k / steps). As in the source it is beta, not rate_k * beta, so that small
    changes are shrunk away harder than the objective asks for.

    Source: Chen et al., "EAD: Elastic-Net Attacks to Deep Neural Networks via Adversarial Examples", 2018. Unlike
    there, images stop one by one and not with their batch.
    Other attributes and errors: see `MinimumAttack`.

    Attributes:
        beta: The weight of the L1 norm, at least 0; the paper's by default.
        rule: Whether the candidate with the least elastic-net distance is returned, or that of the least L1 norm.
    """

    method: ClassVar[str] = "ead"
    marks = MappingProxyType({**MinimumAttack.marks, "beta": "beta{:g}", "rule": "by-{}"})

    beta: float = 0.01
    rule: DecisionRule = DecisionRule.EN

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("beta", self.beta)
        if self.rule not in list(DecisionRule):
            raise SettingError(f"rule: expected {' or '.join(DecisionRule)}, found {self.rule!r}")

    def distance(self, change: Tensor) -> Tensor:
        """The elastic net: the square of the L2 norm, and beta times the L1 norm."""
        return change.square().sum(dim=(1, 2, 3)) + self.beta * change.abs().sum(dim=(1, 2, 3))

    def size(self, change: Tensor) -> Tensor:
        """The same, or the L1 norm."""
        return self.distance(change) if self.rule == DecisionRule.EN else change.abs().sum(dim=(1, 2, 3))

    def start(self, images: Tensor) -> Iterate:
        """At the images."""
        return Iterate(clean=images, point=images, candidate=images)

    def step(self, now: Iterate, slope: Tensor, number: int) -> Iterate:
        """One step of FISTA, with Chen et al.'s momentum and rate."""
        rate = self.learning_rate * (1 - number / self.steps) ** 0.5
        change = now.point - now.clean
        change.sub_(slope.add_(change, alpha=2), alpha=rate)
        candidate = functional.softshrink(change, self.beta).add_(now.clean).clamp_(0, 1)
        point = candidate + number / (number + 3) * (candidate - now.candidate)
        return Iterate(clean=now.clean, point=point, candidate=candidate)
