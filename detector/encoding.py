"""Images as files, such that `detector.decoding` reads the same pixels again."""

import io

import numpy as np
from PIL import Image

from detector.imageset import Images


def encode_image(image: Images) -> tuple[str, bytes]:
    """One image as a file without loss.

    Args:
        image: (C, H, W), uint8 or float32.

    Returns:
        `png` for 8-bit grey or RGB; else `npz`, an archive with the one array `images`, (1, C, H, W).
    """
    file = io.BytesIO()
    if image.dtype == np.uint8 and len(image) in (1, 3):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
        return "png", file.getvalue()
    np.savez_compressed(file, images=image[None])
    return "npz", file.getvalue()
