"""What a bundle takes as input."""

from typing import Any, Literal

from pydantic import Field

from detector.document import Record
from detector.errors import InputError
from detector.imageset import Images, check_images


class InputSpec(Record):
    """The input of a bundle.

    Attributes:
        name: Of the graph's input.
        dtype: Of the graph's input; uint8 images are divided by 255 on the way.
        shape: (C, H, W).
        low: Smallest value of a float image.
        high: Largest value of a float image.
        resize: Encoded images of another size are resized; otherwise they are refused.
        grey_to_rgb: Encoded grey images are accepted by a model of colour images.
    """

    name: str = "images"
    dtype: Literal["float32"] = "float32"
    shape: tuple[int, int, int]
    low: float = Field(default=0.0, ge=0, le=0)
    high: float = Field(default=1.0, ge=1, le=1)
    resize: bool = False
    grey_to_rgb: bool = False

    def check(self, images: Any, where: str = "images") -> Images:
        """Returns images as a (N, C, H, W) array that fits.

        Raises:
            InputError: See `check_images`; or another C, H, W than the bundle's.
        """
        array = check_images(images, where)
        if array.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise InputError(f"{where}: expected shape (N, {expected}), found {array.shape}{self.hint(array.shape)}")
        return array

    def hint(self, shape: tuple[int, ...]) -> str:
        """What to do about another shape than the bundle's, for the end of a message; empty where nobody knows."""
        channels, *sides = self.shape
        return "; np.moveaxis(images, -1, -3) puts channels first" if shape[-3:] == (*sides, channels) else ""
