"""The gradient of a function of the logits by the pixels, exact where float32 would round it to zero.

Where every member is certain, the slope of the loss is fine in float64 and would vanish on its way through the
networks' float32. So it is scaled to 1 between the loss and the networks, and the scale is returned beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Gradient:
    """At N images.

    Attributes:
        logits: (N, K, L) there.
        values: (N,) float64, the function's values.
        direction: (N, C, H, W) float32, each image's gradient over its scale.
        scale: (N, 1, 1, 1) float64, above 0.
    """

    logits: Tensor
    values: Tensor
    direction: Tensor
    scale: Tensor

    @property
    def exact(self) -> Tensor:
        """(N, C, H, W) float32, the gradient itself."""
        return (self.direction * self.scale).to(self.direction.dtype)


def gradient(ensemble: nn.Module, images: Tensor, function: Callable[[Tensor], Tensor]) -> Gradient:
    """The gradient by the pixels of a function of the logits.

    Args:
        ensemble: (N, C, H, W) to (N, K, L) logits.
        images: (N, C, H, W) float32.
        function: (N, K, L) logits, float64, to (N,) float64; of each image by itself.
    """
    images = images.detach().requires_grad_()
    logits = ensemble(images)
    exact = logits.detach().double().requires_grad_()
    values = function(exact)
    (slope,) = torch.autograd.grad(values.sum(), exact)
    scale = slope.abs().amax(dim=(1, 2)).clamp(min=torch.finfo(slope.dtype).tiny)
    (direction,) = torch.autograd.grad(logits, images, grad_outputs=(slope / scale[:, None, None]).to(logits.dtype))
    return Gradient(logits.detach(), values.detach(), direction, scale[:, None, None, None])
