"""The images within a distance of an image: what an L-infinity attack may make of it."""

import numpy as np
from numpy.typing import NDArray

FloatImages = NDArray[np.float32]


def ball(images: FloatImages, eps: float) -> tuple[FloatImages, FloatImages]:
    """The smallest and largest float32 values within eps of each pixel, and within [0, 1].

    x + eps rounded to float32 may lie outside the ball by half a unit in the last place. Here it is computed in
    float64 and rounded towards the pixel, so that |x' - x| <= eps holds for whoever checks, in float32 or in
    float64.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        eps: The radius, in units of [0, 1] pixels.
    """
    low, high = images.astype(np.float64) - eps, images.astype(np.float64) + eps
    near_low, near_high = low.astype(np.float32), high.astype(np.float32)
    near_low = np.where(near_low < low, np.nextafter(near_low, np.float32(np.inf)), near_low)
    near_high = np.where(near_high > high, np.nextafter(near_high, np.float32(-np.inf)), near_high)
    return np.maximum(near_low, np.float32(0)), np.minimum(near_high, np.float32(1))
