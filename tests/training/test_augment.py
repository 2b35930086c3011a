"""Augmentation: images stay images, move as far as is said, and alike for the same draws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from training.augment import AUGMENTATIONS, Augmentation, affine, shift, shift_flip, unchanged


def draws(name: str, count: int, seed: int = 0) -> Tensor:
    """A table of an augmentation's draws."""
    return torch.from_numpy(AUGMENTATIONS[name].table(np.random.default_rng(seed), count))


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
    varied = AUGMENTATIONS[name].vary(images, draws(name, 50))
    assert varied.shape == images.shape
    assert varied.dtype == torch.float32
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert varied.is_contiguous()


def test_half_of_the_images_stay_as_they_are() -> None:
    images = blobs()
    same = (affine(images, draws("affine", len(images))) == images).all(dim=(1, 2, 3))
    assert 0.4 < same.double().mean().item() < 0.6


def test_what_moves_moves_a_little_and_every_way() -> None:
    images = blobs()
    moved = affine(images, draws("affine", len(images)))
    offsets = (centres(moved) - 5.5)[(moved != images).any(dim=(1, 2, 3))]
    # Up to 1/16 of 12 pixels, and what scale and the border add.
    assert offsets.abs().max().item() < 1.2
    assert offsets.amin(dim=0).max().item() < -0.4
    assert offsets.amax(dim=0).min().item() > 0.4


def test_channels_move_together() -> None:
    moved = affine(blobs(), draws("affine", 400))
    assert torch.allclose(moved[:, 0], 2 * moved[:, 1], atol=1e-6)


def test_without_augmentation_images_are_as_they_were() -> None:
    images = blobs(3)
    assert unchanged(images, draws("none", 3)) is images


def test_the_same_draws_give_the_same_images() -> None:
    images = blobs(20)
    first, again, other = (affine(images, draws("affine", 20, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 20), (8, 8)])
def test_shift_is_the_loops(height: int, width: int) -> None:
    """Pixel by pixel; where there is none to take, the nearest at the edge."""
    images = torch.from_numpy(np.random.default_rng(1).random((40, 3, height, width), dtype=np.float32))
    table = draws("shift", 40)
    reach = [height // 10, width // 10]
    expected = torch.empty_like(images)
    for n in range(40):
        down, right = (int(u * (2 * r + 1)) - r for u, r in zip(table[n].tolist(), reach, strict=True))
        for y in range(height):
            for x in range(width):
                row, column = min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)
                expected[n, :, y, x] = images[n, :, row, column]
    assert torch.equal(shift(images, table), expected)


def test_every_shift_comes_about_as_often() -> None:
    """Up to a tenth of 32 pixels, to both sides."""
    images = torch.arange(32.0).expand(7000, 1, 32, 32) / 31
    middle = (shift(images, draws("shift", 7000))[:, 0, 0, 16] * 31).round().long() - 16
    counts = torch.bincount(middle + 3, minlength=7)
    assert counts.shape == (7,)
    assert (counts > 800).all()


def test_shift_keeps_to_its_range_at_the_largest_draw() -> None:
    images = torch.arange(32.0).expand(1, 1, 32, 32) / 31
    largest = torch.full((1, 2), 1 - 2.0**-24)
    assert round(shift(images, largest)[0, 0, 0, 16].item() * 31) == 19


def test_half_of_the_images_are_mirrored() -> None:
    images = torch.from_numpy(np.random.default_rng(1).random((400, 3, 9, 9), dtype=np.float32))
    varied = shift_flip(images, draws("shift-flip", 400))  # a tenth of 9 pixels is none
    as_they_were = (varied == images).all(dim=(1, 2, 3))
    mirrored = (varied == images.flip(3)).all(dim=(1, 2, 3))
    assert torch.equal(as_they_were, ~mirrored)
    assert 0.4 < mirrored.double().mean().item() < 0.6


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_an_image_is_varied_alike_in_any_company(name: str) -> None:
    """What lets processes share a batch."""
    images = torch.from_numpy(np.random.default_rng(1).random((12, 3, 16, 16), dtype=np.float32))
    augmentation = AUGMENTATIONS[name]
    table = torch.from_numpy(augmentation.table(np.random.default_rng(0), 12))
    whole = augmentation.vary(images, table)
    for rank in range(3):
        torch.testing.assert_close(augmentation.vary(images[rank::3], table[rank::3]), whole[rank::3])


def test_a_table_has_a_row_for_each_image() -> None:
    table = Augmentation(3, unchanged).table(np.random.default_rng(0), 5)
    assert table.shape == (5, 3)
    assert table.dtype == np.float32
    assert 0 <= table.min() < table.max() < 1
