"""Augmentation by name: how training images are varied from one epoch to the next.

A new one is a function of images and a random generator, and one line in `AUGMENTATIONS`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Of rotation (in radians), scale and shear; translation goes up to half a pixel in eight.
_STRENGTH: Final = 0.15
_TRANSLATION: Final = 1 / 16


def unchanged(images: Tensor, rng: np.random.Generator) -> Tensor:  # noqa: ARG001  takes what the others take
    """The images themselves."""
    return images


def affine(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the images rotated, scaled, sheared and moved a little; what comes in is black.

    The other half stays as it is, since what is moved is also blurred, and what is served is not.
    On `digits` this narrows the scores of honest images, and so sharpens the detection of attacks.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        rng: Drawn from as often for one image as for another.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    count = len(images)
    angle, grow_y, grow_x, shear = rng.uniform(-_STRENGTH, _STRENGTH, size=(4, count))
    move = rng.uniform(-_TRANSLATION, _TRANSLATION, size=(count, 2))
    matrix = np.zeros((count, 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = (1 + grow_x) * np.cos(angle)
    matrix[:, 0, 1] = shear - np.sin(angle)
    matrix[:, 1, 0] = np.sin(angle)
    matrix[:, 1, 1] = (1 + grow_y) * np.cos(angle)
    matrix[:, :, 2] = 2 * move  # a grid's coordinates run from -1 to 1
    grid = functional.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    chosen = torch.from_numpy(rng.random(count) < 0.5)
    return torch.where(chosen[:, None, None, None], moved, images)


AUGMENTATIONS: Final[Mapping[str, Callable[[Tensor, np.random.Generator], Tensor]]] = MappingProxyType(
    {"affine": affine, "none": unchanged}
)
