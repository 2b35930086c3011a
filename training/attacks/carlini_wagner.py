"""Carlini and Wagner's L2 attack: Adam on an unbounded variable whose every value is an image."""

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from training.attacks.minimum import Iterate, MinimumAttack

# Adam's own, as in Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015.
_DECAY: Final = (0.9, 0.999)
_EPSILON: Final = 1e-8
# How far black and white are moved inwards, where the variable would be infinite.
_INWARDS: Final = 5e-7


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(MinimumAttack):
    """Minimises |x' - x|_2^2 + c * shortfall(x') over w, x' = (tanh(w) + 1) / 2, Section 2.2 of the paper.

    The shortfall is that of the log of the averaged probability, where the source has a single network's logits.
    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017. Unlike there, images
    stop one by one and not with their batch.
    Attributes and errors: see `MinimumAttack`.
    """

    method: ClassVar[str] = "cw"

    def distance(self, change: Tensor) -> Tensor:
        """The square of the L2 norm."""
        return change.square().sum(dim=(1, 2, 3))

    def start(self, images: Tensor) -> Iterate:
        """At the images; w, and Adam's two moments of its gradient."""
        w = torch.logit(images, eps=_INWARDS) / 2
        moments = torch.zeros_like(w), torch.zeros_like(w)
        return Iterate(clean=images, point=images, candidate=images, memory=(w, *moments))

    def step(self, now: Iterate, slope: Tensor, number: int) -> Iterate:
        """One step of Adam."""
        w, mean, square = now.memory
        slope.add_(now.change, alpha=2)
        # dx'/dw = (1 - tanh(w)^2) / 2 = 2 x' (1 - x'), which would be 0 at a clean black or white.
        inside = now.point.clamp(_INWARDS, 1 - _INWARDS)
        slope.mul_(inside).mul_(1 - inside).mul_(2)
        mean.lerp_(slope, 1 - _DECAY[0])
        square.mul_(_DECAY[1]).addcmul_(slope, slope, value=1 - _DECAY[1])
        corrections = [1 - decay ** (number + 1) for decay in _DECAY]
        spread = square.sqrt().div_(math.sqrt(corrections[1])).add_(_EPSILON)
        w.addcdiv_(mean, spread, value=-self.learning_rate / corrections[0])
        point = torch.sigmoid(2 * w)  # (tanh(w) + 1) / 2, exact near 0 as well
        return Iterate(clean=now.clean, point=point, candidate=point, memory=now.memory)
