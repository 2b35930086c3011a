"""Growing images: small early, whole at the end, and the same pictures."""

import numpy as np
import pytest
import torch

from training.growth import shrink, size_at, sizes


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ((32, 32), [(16, 16), (16, 16), (24, 24), (32, 32), (32, 32)]),
        ((28, 28), [(14, 14), (14, 14), (21, 21), (28, 28), (28, 28)]),
        ((64, 48), [(32, 24), (32, 24), (48, 36), (64, 48), (64, 48)]),
        ((20, 20), [(20, 20), (20, 20), (15, 15), (20, 20), (20, 20)]),
        ((8, 8), [(8, 8)] * 5),
    ],
)
def test_size_by_progress(full: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert [size_at(full, progress) for progress in (0.0, 0.499, 0.5, 0.75, 0.999)] == expected
    assert sizes(full) == set(expected)


@pytest.mark.parametrize("side", range(8, 70))
def test_the_last_quarter_is_whole_and_nothing_is_tiny(side: int) -> None:
    found = [size_at((side, side), step / 100) for step in range(100)]
    assert found[75:] == [(side, side)] * 25
    assert min(found)[0] >= min(12, side)


def test_shrinking_by_half_keeps_smooth_pictures() -> None:
    """A ramp stays that ramp, seen at half as many places."""
    ramp = torch.linspace(0, 1, 32).expand(2, 3, 32, 32)
    small = shrink(ramp, (16, 16))
    assert small.shape == (2, 3, 16, 16)
    torch.testing.assert_close(
        small[..., 2:-2], ramp.reshape(2, 3, 32, 16, 2).mean(4)[:, :, :16, 2:-2], atol=1e-5, rtol=0
    )


def test_shrinking_does_not_alias() -> None:
    """The finest stripes become grey, where picking every other pixel would leave black or white."""
    stripes = (torch.arange(32) % 2).float().expand(1, 1, 32, 32)
    assert (shrink(stripes, (16, 16)) - 0.5).abs()[..., 1:-1].max().item() < 0.13


def test_images_stay_in_range() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(2, size=(20, 3, 32, 32))).float()
    small = shrink(images, (24, 24))
    assert small.min() >= 0
    assert small.max() <= 1


def test_images_of_that_size_are_left_alone() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert shrink(images, (8, 8)) is images
