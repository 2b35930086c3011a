"""Ensembles whose gradients can be written down, and images for them."""

import numpy as np
import torch
from torch import Tensor, nn

from training.attacks import Attack, Objective, Untargeted


class Linear(nn.Module):
    """K linear members."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights  # (K, L, pixels)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("klp,np->nkl", self.weights, images.flatten(1))


def linear(scale: float = 1.0) -> Linear:
    """Three members, five classes, images of 4 x 4."""
    return Linear(torch.from_numpy(np.random.default_rng(2).normal(size=(3, 5, 16)) * scale).float())


def some_images(count: int = 6) -> tuple[Tensor, Tensor]:
    """Images of 4 x 4 with labels; black and white pixels too, where [0, 1] is the tighter bound."""
    rng = np.random.default_rng(1)
    images = np.clip(rng.uniform(-0.2, 1.2, size=(count, 1, 4, 4)), 0, 1).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(rng.integers(5, size=count))


def answered(count: int) -> tuple[Linear, Tensor, Tensor]:
    """Three members, images, and what the members say of them."""
    ensemble, (images, _) = linear(), some_images(count)
    with torch.no_grad():
        return ensemble, images, ensemble(images).softmax(dim=2).mean(dim=1).argmax(dim=1)


def perturbed(
    ensemble: nn.Module, images: Tensor, labels: Tensor, attack: Attack, objective: type[Objective] = Untargeted
) -> Tensor:
    """A batch under attack, its rows numbered from 0."""
    return attack.perturb(ensemble, images, objective(labels), np.arange(len(images)))
