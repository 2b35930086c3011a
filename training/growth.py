"""Growing images: small ones early in a run, which cost a fraction, and whole ones at its end.

A network that ends in a mean over the image takes any size, and what it learns from small images is a
good start for large ones (Howard et al., DAWNBench, 2018).
"""

from typing import Final

from torch import Tensor
from torch.nn import functional

# (share of the run from which it holds, share of the side). Half the run at a quarter of the work.
_STAGES: Final = ((0.75, 1.0), (0.5, 0.75), (0.0, 0.5))
# A side is never taken below this: digits of 8 x 8 stay as they are.
_LEAST: Final = 12


def size_at(full: tuple[int, int], progress: float) -> tuple[int, int]:
    """The height and width to train at.

    Args:
        full: The images' own.
        progress: The share of the run that is done, in [0, 1).
    """
    return _scaled(full, next(share for start, share in _STAGES if progress >= start))


def sizes(full: tuple[int, int]) -> set[tuple[int, int]]:
    """Every height and width that `size_at` comes to."""
    return {_scaled(full, share) for _, share in _STAGES}


def shrink(images: Tensor, to: tuple[int, int]) -> Tensor:
    """(N, C, H, W) images at another size, without aliasing; those that have it already as they are."""
    if tuple(images.shape[2:]) == to:
        return images
    return functional.interpolate(images, size=to, mode="bilinear", antialias=True, align_corners=False)


def _scaled(full: tuple[int, int], share: float) -> tuple[int, int]:
    """So much of each side, or all of it where that is too small."""
    height, width = (round(side * share) for side in full)
    return (height, width) if min(height, width) >= _LEAST else full
