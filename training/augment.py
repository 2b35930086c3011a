"""Augmentation by name: how training images are varied from one epoch to the next.

An augmentation is a function of images and of a table of uniform random numbers, one row for each image.
Who draws the table decides nothing else: an image is varied alike whichever process or device does it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

# Of rotation (in radians), scale and shear; translation goes up to half a pixel in eight.
_STRENGTH: Final = 0.15
_TRANSLATION: Final = 1 / 16
# The largest shift of the paper's recipe, as a share of the image's side.
_SHIFT: Final = 0.1


@dataclass(frozen=True)
class Augmentation:
    """How images are varied.

    Attributes:
        draws: Random numbers an image takes.
        vary: Takes (N, C, H, W) float32 in [0, 1] and (N, draws) float32 in [0, 1), on one device; returns
            images like those it was given.
    """

    draws: int
    vary: Callable[[Tensor, Tensor], Tensor]

    def table(self, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
        """Draws for so many images: (count, draws) float32 in [0, 1)."""
        return rng.random((count, self.draws), dtype=np.float32)


def unchanged(images: Tensor, uniform: Tensor) -> Tensor:  # noqa: ARG001  takes what the others take
    """The images themselves."""
    return images


def affine(images: Tensor, uniform: Tensor) -> Tensor:
    """Half of the images rotated, scaled, sheared and moved a little; what comes in is black.

    The other half stays as it is, since what is moved is also blurred, and what is served is not.
    On `digits` this narrows the scores of honest images, and so sharpens the detection of attacks.
    """
    angle, grow_y, grow_x, shear = ((2 * uniform[:, :4] - 1) * _STRENGTH).unbind(dim=1)
    move = (2 * uniform[:, 4:6] - 1) * _TRANSLATION
    matrix = torch.stack(
        [(1 + grow_x) * angle.cos(), shear - angle.sin(), 2 * move[:, 0],  # a grid's coordinates run from -1 to 1
         angle.sin(), (1 + grow_y) * angle.cos(), 2 * move[:, 1]], dim=1
    ).reshape(-1, 2, 3)  # fmt: skip
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    return torch.where((uniform[:, 6] < 0.5)[:, None, None, None], moved, images)


def shift(images: Tensor, uniform: Tensor) -> Tensor:
    """Every image moved by whole pixels, up to a tenth of its side; its edge is repeated, as in the paper's recipe."""
    rows, columns = (_moved(side, uniform[:, axis]) for axis, side in enumerate(images.shape[2:]))
    # An axis at a time, which keeps the images in one piece of memory, channels first.
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    return moved.gather(3, columns[:, None, None, :].expand_as(images))


def shift_flip(images: Tensor, uniform: Tensor) -> Tensor:
    """`shift`, and half of the images mirrored left to right: for photographs, not for digits."""
    flipped = torch.where((uniform[:, 2] < 0.5)[:, None, None, None], images.flip(3), images)
    return shift(flipped, uniform)


def _moved(side: int, uniform: Tensor) -> Tensor:
    """Where along one axis each pixel comes from: (N, side) int64."""
    reach = math.floor(_SHIFT * side)
    offset = (uniform * (2 * reach + 1)).long() - reach
    return (torch.arange(side, device=uniform.device) + offset[:, None]).clamp(0, side - 1)


AUGMENTATIONS: Final[Mapping[str, Augmentation]] = MappingProxyType(
    {
        "affine": Augmentation(7, affine),
        "none": Augmentation(0, unchanged),
        "shift": Augmentation(2, shift),
        "shift-flip": Augmentation(3, shift_flip),
    }
)
