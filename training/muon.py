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
# Of matrices that are so many times as long as wide or more, squares are cheaper to work on than they are.
_WIDE: Final = 1.5


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
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + torch.finfo(x.dtype).tiny)
    through_gram = x.shape[2] > _WIDE * x.shape[1] and _exact(x)
    x = (_through_gram if through_gram else _directly)(x) / x.shape[1] ** 0.5
    return x if wide else x.mT


def _directly(x: Tensor) -> Tensor:
    """The polynomials of (B, R, C) matrices, one after another: p(x) = (a + b x x' + c (x x')^2) x."""
    one, three, five = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=three, alpha=five), x, beta=one)
    return x


def _through_gram(x: Tensor) -> Tensor:
    """The same by (B, R, R) matrices alone, but for the first product and the last.

    Each polynomial is a factor from the left, q x, and factors are functions of x x', so that they commute: with
    x x' = g, the next one's is q g q, and the factors of all steps multiply up before x is met again. Where x has no
    extent to speak of, g is rounding, which each step multiplies by the square of 3.4: in float32 that ends below 0.01,
    and with the short products of TF32 or bfloat16 it does not end well.
    """
    one, three, five = _COEFFICIENTS
    gram = x @ x.mT
    whole = None
    for step in range(_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=three, alpha=five)
        factor.diagonal(dim1=1, dim2=2).add_(one)
        whole = factor if whole is None else factor @ whole
        if step < _STEPS - 1:
            gram = factor @ gram @ factor
    assert whole is not None
    return whole @ x


def _exact(x: Tensor) -> bool:
    """Whether products have all digits of float32."""
    short = x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return torch.finfo(x.dtype).eps <= torch.finfo(torch.float32).eps and not short


def _gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    """Theirs, all of which have one."""
    return [weight.grad for weight in weights if weight.grad is not None]


def _by_shape(weights: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those of one shape together."""
    found: dict[torch.Size, list[nn.Parameter]] = {}
    for weight in weights:
        found.setdefault(weight.shape, []).append(weight)
    return list(found.values())
