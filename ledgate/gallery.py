"""A picture of a few images with what the server said of each."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.imageset import ImageSet
from detector.verdicts import Verdicts

_TILE: Final = 96
_CAPTION: Final = 40
_GAP: Final = 16
_TITLE: Final = 104
_INK: Final = (20, 20, 20)
_ALARM: Final = (190, 20, 20)


def save_gallery(path: Path, rows: Mapping[str, tuple[ImageSet, Verdicts]], *, columns: int) -> None:
    """Draws the first images of each row, enlarged, with the class that was answered; flagged ones in red.

    Args:
        path: The PNG to write.
        rows: By title, images of one channel and the verdicts on them.
        columns: Images of each row.
    """
    width = _TITLE + columns * (_TILE + _GAP) + _GAP
    height = len(rows) * (_TILE + _CAPTION + _GAP) + _GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font: Any = ImageFont.load_default(size=15)
    for row, (title, (images, verdicts)) in enumerate(rows.items()):
        top = _GAP + row * (_TILE + _CAPTION + _GAP)
        draw.text((_GAP, top + _TILE // 2 - 8), title, fill=_INK, font=font)
        for column in range(columns):
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
    """One image's first channel as 8-bit grey, (H, W)."""
    return np.asarray((images.images[index, 0] * 255).round(), dtype=np.uint8)
