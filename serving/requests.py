"""A request's images: from the message, which may hold anything, to an array that fits the model.

NaN has to stop here. It would pass through the members into a score that is not below any
threshold, and the poisoned image would count as clean.
"""

import math
import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from detector.decoding import decode_image
from detector.device import usable_cores
from detector.errors import InputError
from detector.imageset import Images
from detector.inputspec import InputSpec
from protos.ledgate.v1 import classifier_pb2
from serving.config import ServerConfig

# The bytes of a tensor are little-endian, whatever this machine is.
DTYPES: Final[dict[classifier_pb2.DataType, np.dtype[Any]]] = {
    classifier_pb2.DataType.UINT8: np.dtype("u1"),
    classifier_pb2.DataType.FLOAT32: np.dtype("<f4"),
}


class RequestReader:
    """Reads requests for one model.

    Args:
        spec: What the model takes.
        config: How many images, and of how many pixels.
    """

    def __init__(self, spec: InputSpec, config: ServerConfig) -> None:
        self._spec = spec
        self._max_images = config.max_images
        self._max_pixels = config.max_pixels
        # A decoded image can be a thousand times its file: only so many are decoded at a time.
        self._decoders = threading.BoundedSemaphore(usable_cores())

    def images(
        self,
        request: classifier_pb2.ClassifyRequest,
        admit: Callable[[int], None],
        check_wanted: Callable[[], None] = lambda: None,
    ) -> Images:
        """The images, (N, C, H, W).

        Args:
            request: The message.
            admit: Told the number of images before they are decoded or looked at; it may raise, and
                then no work has been done in vain.
            check_wanted: Asked before each image is decoded, which can take long; it may raise too.

        Raises:
            InputError: Anything that does not fit; names the field, what was expected and found,
                and the first bad image.
        """
        kind = request.WhichOneof("input")
        if kind == "tensor":
            return self._tensor(request.tensor, admit)
        if kind == "encoded":
            return self._encoded(request.encoded, admit, check_wanted)
        raise InputError("input: expected a tensor or encoded images, found neither")

    def _tensor(self, tensor: classifier_pb2.Tensor, admit: Callable[[int], None]) -> Images:
        """Raw numbers, not copied."""
        shape = self._shape(tensor)
        admit(shape[0])
        dtype = DTYPES.get(tensor.dtype)
        if dtype is None:
            names = classifier_pb2.DataType.items()
            found = next((name for name, number in names if number == tensor.dtype), str(tensor.dtype))
            raise InputError(f"tensor.dtype: expected UINT8 or FLOAT32, found {found}")
        data = tensor.data
        expected = math.prod(shape) * dtype.itemsize
        if len(data) != expected:
            raise InputError(
                f"tensor.data: expected {expected} bytes for {_shown(shape)} of {dtype.name}, found {len(data)}"
            )
        array = np.frombuffer(data, dtype).reshape(shape)
        return self._spec.check(array.astype(dtype.newbyteorder("="), copy=False), "tensor.data")

    def _encoded(
        self, encoded: classifier_pb2.EncodedImages, admit: Callable[[int], None], check_wanted: Callable[[], None]
    ) -> Images:
        """PNG and JPEG files."""
        admit(self._check_count(len(encoded.images), "encoded.images"))
        decoded = []
        for index, content in enumerate(encoded.images):
            with self._decoders:
                check_wanted()
                where = f"encoded.images[{index}]"
                decoded.append(decode_image(content, self._spec, max_pixels=self._max_pixels, where=where))
        return np.stack(decoded)

    def _shape(self, tensor: classifier_pb2.Tensor) -> tuple[int, int, int, int]:
        """(N, C, H, W), of which (C, H, W) is the model's."""
        shape = tuple(tensor.shape)
        if len(shape) not in (3, 4) or shape[-3:] != self._spec.shape:
            one = ", ".join(map(str, self._spec.shape))
            hint = self._spec.hint(shape)
            raise InputError(f"tensor.shape: expected (N, {one}) or ({one}), found {_shown(shape)}{hint}")
        count = shape[0] if len(shape) == 4 else 1
        return (self._check_count(count, "tensor.shape"), *self._spec.shape)

    def _check_count(self, count: int, where: str) -> int:
        """The number of images, if it is one that is allowed."""
        if not 1 <= count <= self._max_images:
            raise InputError(f"{where}: expected 1 to {self._max_images} images, found {count}")
        return count


def _shown(shape: tuple[int, ...]) -> str:
    """A shape for a message; a hostile one may have a million axes."""
    axes = ", ".join(map(str, shape[:8]))
    return f"({axes}, ...)" if len(shape) > 8 else f"({axes})"
