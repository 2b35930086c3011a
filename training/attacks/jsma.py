"""The saliency map attack of the paper: greedy, one value lowered at a time."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detector.errors import InputError
from training.attacks.attack import check_distance
from training.attacks.gradient import gradient
from training.attacks.objective import AsInPaper, Objective, Targeted, Untargeted
from training.attacks.saliency import Choice, SaliencyAttack


@dataclass(frozen=True, kw_only=True)
class JSMA(SaliencyAttack):
    """Lowers, step after step, the value whose lowering climbs the loss most, Section 2.2 of the paper.

    The paper's saliency map is the product of two slopes: that of the averaged probability of the label, where it is
    not below 0, and that of the sum of the others', where it is not above 0. Probabilities add up to 1, so that the
    second is the first with its sign turned, the product is its square, and the largest square is where the label's
    probability rises most with the value: so this one is lowered. The same value may be lowered again.

    With `AsInPaper`, values at 1 are left out, as the paper's own code does, and those at 0 are not: where it comes to
    pick such a one it stalls, since lowering changes nothing there. Otherwise it picks from those above 0.

    Source: Papernot et al., "The Limitations of Deep Learning in Adversarial Settings", 2016, who change pairs; see
    `JSMAPairs`.
    Other attributes and errors: see `SaliencyAttack`.

    Attributes:
        theta: By how much a step lowers a value, in units of [0, 1] pixels; in the paper 0.1 on CIFAR-10, 0.2 on MNIST.
        gamma: The budget: floor(gamma * C * H * W) steps.
    """

    method: ClassVar[str] = "jsma"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distance("theta", self.theta)

    @property
    def name(self) -> str:
        """Method, budget and change, as in `jsma-0.05-by-0.1`."""
        return f"{self.method}-{self.gamma:g}-by-{self.theta:g}"

    @property
    def values_a_step(self) -> int:
        """One."""
        return 1

    @property
    def change(self) -> float:
        """Lowered by theta."""
        return -self.theta

    def chased(self, ensemble: nn.Module, images: Tensor, objective: Objective) -> Objective:  # noqa: ARG002
        """What is wanted; nobody has said what this form would be with a target, `JSMAPairs` has one.

        Raises:
            InputError: A target.
        """
        if isinstance(objective, Targeted):
            raise InputError(f"{self.method}: expected to leave a class, found one to reach")
        return objective

    def choose(self, ensemble: nn.Module, images: Tensor, chased: Objective) -> Choice:
        """The value with the least slope of the loss; its sign is what lowering does to it."""
        # Here the paper's code takes the averaged probability as well, and not its softmax.
        at = gradient(ensemble, images, Untargeted(chased.labels).loss)
        candidates = images < 1 if isinstance(chased, AsInPaper) else images > 0
        slope = at.direction.masked_fill(~candidates, torch.inf).flatten(1)
        return Choice(at.logits, slope.argmin(dim=1, keepdim=True), candidates.flatten(1).any(dim=1))
