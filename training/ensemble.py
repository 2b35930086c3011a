"""K members as one torch module, from images in [0, 1] to logits.

Normalisation is part of each member, so that it is exported with it: a bundle takes images in [0, 1]
and nobody has to know what the networks were trained on.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from detector.prediction import check_member_count
from training.networks import build
from training.seeds import torch_seed


class Member(nn.Module):
    """One classifier: images in [0, 1] to logits.

    Args:
        network: Takes normalised images.
        mean: Subtracted; a number for each channel (C, 1, 1), or for each pixel (C, H, W).
        std: Then divided by; of the same shape.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        # Copies: loading a state writes into the buffers, and members or mean and std may have been given one tensor.
        self.register_buffer("mean", mean.float().clone())
        self.register_buffer("std", std.float().clone())

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 in [0, 1] to (N, L) logits."""
        return cast("Tensor", self.network((images - self.mean) / self.std))


class Ensemble(nn.Module):
    """K members: (N, C, H, W) float32 in [0, 1] to (N, K, L) logits."""

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Every member's logits."""
        return torch.stack([member(images) for member in self.members], dim=1)


def build_ensemble(
    arch: str, *, members: int, image_shape: tuple[int, int, int], classes: int, mean: Tensor, std: Tensor, seed: int
) -> Ensemble:
    """Returns an untrained ensemble; member k is initialised from (seed, k) alone.

    Args:
        arch: An architecture's name.
        members: K.
        image_shape: C, H, W.
        classes: L.
        mean: Of the training images, see `Member`.
        std: Of the training images, see `Member`.
        seed: Of the run.

    Raises:
        InputError: No such architecture, images too small for it, or a K and L without log diversity.
    """
    check_member_count(members, classes)
    built = []
    with torch.random.fork_rng(devices=[]):
        for member in range(members):
            torch.manual_seed(torch_seed(seed, "weights", member))
            built.append(Member(build(arch, image_shape, classes), mean, std))
    return Ensemble(built)
