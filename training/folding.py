"""Networks with batch normalisation folded into the convolutions before it: the same answers, sooner.

In evaluation mode batch normalisation is a multiplication and an addition for each channel, which a convolution does
by itself. Without those passes over memory a gradient by the pixels takes about a fifth less time on a CPU, see
`benchmarks.attacks`. The answers differ by rounding in float32: good enough to follow gradients through, while what is
recorded is looked at on the networks themselves.
"""

from typing import Final, cast

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from training.ensemble import Ensemble, Member
from training.precision import full_float32

_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# How far an answer may be from the network's own, relative to the largest: some hundred times what rounding does.
_TOLERANCE: Final = 1e-4
_IMAGES: Final = 4


def folded(ensemble: Ensemble, image_shape: tuple[int, int, int]) -> Ensemble:
    """A folded copy, without gradients of its weights, on the same device.

    A member is taken as it is where folding is out of the question: it has no batch normalisation, it cannot be traced,
    or what was traced does not answer as it does.

    Args:
        ensemble: In evaluation mode.
        image_shape: C, H, W.
    """
    return Ensemble([_folded(cast("Member", member), image_shape) for member in ensemble.members]).eval()


def _folded(member: Member, image_shape: tuple[int, int, int]) -> Member:
    """One member."""
    if not any(isinstance(module, _NORMS) for module in member.network.modules()):
        return member
    try:
        found = Member(fuse(member.network), member.mean, member.std)
        found.eval().requires_grad_(requires_grad=False)
        return found if _alike(member, found, image_shape) else member
    except Exception:  # noqa: BLE001  somebody else's network raises almost anything when it is traced
        return member


def _alike(member: Member, found: Member, image_shape: tuple[int, int, int]) -> bool:
    """Whether both give the same answers to some images, but for rounding."""
    images = torch.rand(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(0)).to(member.mean.device)
    with torch.no_grad(), full_float32():
        own, other = member(images), found(images)
    return bool((own - other).abs().max() <= _TOLERANCE * own.abs().max())
