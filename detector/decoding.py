"""PNG and JPEG files to arrays: one decoder for calibration, embedded use and serving.

A threshold holds for the pixels it was measured on, so nothing is adjusted silently: an image has
the bundle's size and colours, or is refused, unless the bundle declares otherwise.
"""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from detector.errors import InputError
from detector.inputspec import InputSpec

MAX_PIXELS: Final = 4096 * 4096
# By the first bytes of a file. Opened by themselves, since Pillow's `open` has a bound of its own beside ours, and says
# so by a warning to whoever runs the program.
_FORMATS: Final[dict[bytes, tuple[str, type[ImageFile.ImageFile]]]] = {
    b"\x89PNG\r\n\x1a\n": ("PNG", PngImageFile),
    b"\xff\xd8\xff": ("JPEG", JpegImageFile),
}
_MODES: Final = {1: "L", 3: "RGB"}


def decode_image(
    content: bytes, spec: InputSpec, *, max_pixels: int = MAX_PIXELS, where: str = "image"
) -> NDArray[np.uint8]:
    """Decodes one PNG or JPEG.

    Args:
        content: The file.
        spec: What the bundle takes: size, colours, whether to resize or to turn grey into RGB.
        max_pixels: Larger images are refused before they are decoded; so are those of another size than the bundle's,
            where it does not resize.
        where: How a message names the image.

    Returns:
        (C, H, W) uint8, EXIF orientation applied.

    Raises:
        InputError: Not a PNG or JPEG, damaged, too large, not 8 bits of grey or RGB, or another
            size than the bundle's.
    """
    channels, height, width = spec.shape
    if channels not in _MODES:
        raise InputError(f"{where}: expected a tensor, since no image file has {channels} channels, found a file")
    image = _in_mode(_open(content, max_pixels, spec, where), _MODES[channels], spec, where)
    if image.size != (width, height):
        if not spec.resize:
            raise InputError(f"{where}: {_other_size(spec, image.size)}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(content: bytes, max_pixels: int, spec: InputSpec, where: str) -> Image.Image:
    """A decoded image. What its header says is judged before the decoding, which can take a thousand times as long."""
    name, kind = next((found for head, found in _FORMATS.items() if content.startswith(head)), ("", None))
    if kind is None:
        raise InputError(f"{where}: expected a PNG or JPEG, found {len(content)} bytes that are none")
    try:
        image = kind(io.BytesIO(content))
        fault = _fault(image, max_pixels, spec)
        if fault is None:
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:  # noqa: BLE001  a decoder's errors on hostile bytes have no common class
        fault = f"expected a whole {name}, found one that is cut off or damaged ({type(error).__name__})"
    raise InputError(f"{where}: {fault}")


def _fault(image: ImageFile.ImageFile, max_pixels: int, spec: InputSpec) -> str | None:
    """Why an image that has been opened is not worth decoding; None where nothing in its header speaks against it."""
    width, height = image.size
    # Pillow reads 16 bits a channel as 8 and says so here only, as in "RGB;16B".
    packed = str(image.tile[0][3]) if image.format == "PNG" else ""
    if ";" in packed:
        return f"expected 8 bits a channel, found {packed}"
    if width * height > max_pixels:
        return f"expected at most {max_pixels} pixels, found {width} x {height}"
    sides = (spec.shape[2], spec.shape[1])
    if not spec.resize and (width, height) not in (sides, sides[::-1]):  # of an image that EXIF turns, the sides change
        return _other_size(spec, image.size)
    return None


def _other_size(spec: InputSpec, found: tuple[int, int]) -> str:
    """The refusal of an image that the bundle would have to resize."""
    _, height, width = spec.shape
    pixels = f"expected {width} x {height} pixels, found {found[0]} x {found[1]}"
    return f"{pixels}; resize it first, since this bundle resizes none"


def _in_mode(image: Image.Image, mode: str, spec: InputSpec, where: str) -> Image.Image:
    """The image in the bundle's colours, or an error; only grey to RGB is ever converted."""
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode == "L" and mode == "RGB" and spec.grey_to_rgb and "transparency" not in image.info:
        return image.convert("RGB")
    names = {"L": "8-bit grey", "RGB": "8-bit RGB"}
    found = names.get(image.mode, f"mode {image.mode}") + (" with transparency" if "transparency" in image.info else "")
    raise InputError(f"{where}: expected {names[mode]}, found {found}")
