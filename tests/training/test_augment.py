"""Augmentation: small, half of the time, and the same for the same draws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.augment import AUGMENTATIONS, affine, unchanged


def blobs(count: int = 400) -> Tensor:
    """A soft spot in the middle of a 12 x 12 image of two channels, one the other's double."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    spot = torch.exp(-((y - 5.5) ** 2 + (x - 5.5) ** 2) / 8)
    return torch.stack([spot, spot / 2]).repeat(count, 1, 1, 1)


def centres(images: Tensor) -> Tensor:
    """Where the spot's mass lies: (N, 2)."""
    mass = images[:, 0]
    where = torch.arange(12.0)
    total = mass.sum(dim=(1, 2))
    return (
        torch.stack([(mass.sum(dim=2) * where).sum(dim=1), (mass.sum(dim=1) * where).sum(dim=1)], dim=1)
        / total[:, None]
    )


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_images_stay_images(name: str) -> None:
    images = torch.from_numpy(np.random.default_rng(1).random((50, 3, 9, 13), dtype=np.float32))
    varied = AUGMENTATIONS[name](images, np.random.default_rng(0))
    assert varied.shape == images.shape
    assert varied.dtype == torch.float32
    assert varied.min() >= 0
    assert varied.max() <= 1


def test_half_of_the_images_stay_as_they_are() -> None:
    images = blobs()
    same = (affine(images, np.random.default_rng(0)) == images).all(dim=(1, 2, 3))
    assert 0.4 < same.double().mean().item() < 0.6


def test_what_moves_moves_a_little_and_every_way() -> None:
    images = blobs()
    moved = affine(images, np.random.default_rng(0))
    offsets = (centres(moved) - 5.5)[(moved != images).any(dim=(1, 2, 3))]
    # Up to 1/16 of 12 pixels, and what scale and the border add.
    assert offsets.abs().max().item() < 1.2
    assert offsets.amin(dim=0).max().item() < -0.4
    assert offsets.amax(dim=0).min().item() > 0.4


def test_channels_move_together() -> None:
    moved = affine(blobs(), np.random.default_rng(0))
    assert torch.allclose(moved[:, 0], 2 * moved[:, 1], atol=1e-6)


def test_without_augmentation_images_are_as_they_were() -> None:
    images = blobs(3)
    assert unchanged(images, np.random.default_rng(0)) is images


def test_the_same_draws_give_the_same_images() -> None:
    images = blobs(20)
    first, again, other = (affine(images, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
