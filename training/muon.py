"""Muon: convolutions take orthogonalised steps, everything else those of SGD.

Each kernel is a matrix, outputs by inputs; its momentum is replaced by the nearest matrix with equal singular
values, so that a step moves all directions alike, and not only the few in which gradients are large (Jordan et al.,
"Muon: An optimizer for hidden layers in neural networks", 2024). Kernels keep the norm that they began with: before
a batch normalisation only their direction matters, and the learning rate is then the angle of a step, in radians.

torch's own `Muon` takes matrices alone, and libraries that take kernels orthogonalise one at a time; here those of
one shape, of all members, go together.
"""

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

_MOMENTUM: Final = 0.9
# What the rest, biases, normalisations and the last layer, learns by, in units of the kernels' rate.
_REST: Final = 2.0
# Odd polynomials of a matrix that send its singular values towards 1, fast and not exactly: within 0.7 to 1.2 after
# five steps. The coefficients are Jordan's.
_STEPS: Final = 5
_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.SGD):
    """The optimiser; SGD with Nesterov momentum 0.9 for what is no kernel.

    Args:
        groups: Of parameters; those with `kernels` true take orthogonalised steps.
        fused: Whether the rest of a step is one kernel, see `torch.optim.SGD`.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, fused: bool | None = None) -> None:
        # The momentum of kernels is taken before a step becomes orthogonal, so SGD is to add none to it.
        plain = {"momentum": 0.0, "nesterov": False}
        own = [{**group, **(plain if group["kernels"] else {})} for group in groups]
        super().__init__(own, lr=0.0, momentum=_MOMENTUM, nesterov=True, fused=fused)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes a step; parameters without gradients stand still. The gradients of kernels are gone after it."""
        kernels = [weight for group in self.param_groups if group["kernels"]
                   for weight in group["params"] if weight.grad is not None]  # fmt: skip
        norms = [self._state(weight)["norm"] for weight in kernels]
        for alike in _by_shape(kernels):
            directions = orthogonal(torch.stack([hurried.flatten(1) for hurried in self._hurried(alike)]))
            torch._foreach_copy_(_gradients(alike), [*directions.view(-1, *alike[0].shape)])
        if kernels:
            torch._foreach_mul_(_gradients(kernels), norms)
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = group["lr"] * (1.0 if group["kernels"] else _REST)  # not in place, where rates are tensors
        super().step(closure)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        if kernels:
            torch._foreach_mul_(kernels, torch._foreach_div(norms, torch._foreach_norm(kernels)))

    def _hurried(self, weights: list[nn.Parameter]) -> list[Tensor]:
        """Kernels' gradients with Nesterov momentum."""
        gradients, momenta = _gradients(weights), [self._state(weight)["momentum"] for weight in weights]
        torch._foreach_mul_(momenta, _MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        return list(torch._foreach_add(gradients, momenta, alpha=_MOMENTUM))

    def _state(self, weight: nn.Parameter) -> dict[str, Tensor]:
        """What is kept of a kernel: its norm at the start, and its momentum."""
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["norm"], state["momentum"] = weight.norm(), torch.zeros_like(weight)
        return state


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest matrices with equal singular values, at a Frobenius norm of about 1.

    Args:
        matrices: (B, R, C), any real dtype; a matrix of zeros stays one.

    Returns:
        (B, R, C).
    """
    one, three, five = _COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + torch.finfo(x.dtype).tiny)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=three, alpha=five), x, beta=one)
    x = x / x.shape[1] ** 0.5
    return x if wide else x.mT


def _gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    """Theirs, all of which have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def _by_shape(weights: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those of one shape together."""
    found: dict[torch.Size, list[nn.Parameter]] = {}
    for weight in weights:
        found.setdefault(weight.shape, []).append(weight)
    return list(found.values())
