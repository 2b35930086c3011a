"""A picture of a few images with what the server said of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.verdicts import Verdicts

_TILE: Final = 96
_CAPTION: Final = 40
_GAP: Final = 24
_TITLE: Final = 104
_INK: Final = (20, 20, 20)
_ALARM: Final = (190, 20, 20)


def save_gallery(path: Path, rows: Mapping[str, tuple[ImageSet, Verdicts]], *, columns: int) -> None:
    """Draws the first images of each row, enlarged, with the class that was answered; flagged ones in red.

    Args:
        path: The PNG to write.
        rows: By title, grey or colour images and the verdicts on them.
        columns: Images of each row, where there are so many.
    """
    width = _TITLE + columns * (_TILE + _GAP) + _GAP
    height = len(rows) * (_TILE + _CAPTION + _GAP) + _GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font: Any = ImageFont.load_default(size=15)
    for row, (title, (images, verdicts)) in enumerate(rows.items()):
        top = _GAP + row * (_TILE + _CAPTION + _GAP)
        draw.text((_GAP, top + _TILE // 2 - 8), title, fill=_INK, font=font)
        for column in range(min(columns, len(images))):
            left = _TITLE + _GAP + column * (_TILE + _GAP)
            tile = Image.fromarray(pixels(images, column)).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (left, top))
            flagged = verdicts.adversarial is not None and bool(verdicts.adversarial[column])
            colour = _ALARM if flagged else _INK
            if flagged:
                draw.rectangle((left - 3, top - 3, left + _TILE + 2, top + _TILE + 2), outline=_ALARM, width=3)
            draw.text((left, top + _TILE + 4), f"says {verdicts.class_names[column]}", fill=colour, font=font)
            draw.text((left, top + _TILE + 20), "FLAGGED" if flagged else "not flagged", fill=colour, font=font)
    canvas.save(path)


def pixels(images: ImageSet, index: int) -> np.ndarray:
    """One image in 8 bits, as Pillow takes it: (H, W) grey or (H, W, 3) RGB.

    Raises:
        InputError: It has neither one channel nor three.
    """
    image = (as_floats(images.images[index]) * 255).round().astype(np.uint8)
    if len(image) not in (1, 3):
        raise InputError(f"images: expected 1 channel (grey) or 3 (RGB) to draw, found {len(image)}")
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
