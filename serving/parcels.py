"""Images cut into requests that a server will take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import numpy as np

from detector.errors import InputError
from detector.imageset import Images, check_images
from protos.ledgate.v1 import classifier_pb2

# Protobuf's own bytes: tags, lengths and the shape for a request, a tag and a length for each file.
_REQUEST_BYTES: Final = 128
_FILE_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """One request.

    Attributes:
        request: The message.
        start: Index of its first image among all.
        count: Its images.
    """

    request: classifier_pb2.ClassifyRequest
    start: int
    count: int


def cut(
    images: Any, template: classifier_pb2.ClassifyRequest, *, max_images: int, max_message_bytes: int
) -> Iterator[Parcel]:
    """Cuts images into parcels, in order.

    Args:
        images: (N, C, H, W) or (C, H, W), uint8 or float32 in [0, 1]; or a sequence of PNG or JPEG
            files as bytes.
        template: A request without images.
        max_images: Most images of a request.
        max_message_bytes: Largest request.

    Raises:
        InputError: Images of another form, none, or one that is too large for a request.
    """
    room = max_message_bytes - template.ByteSize() - _REQUEST_BYTES
    if isinstance(images, list | tuple) and all(isinstance(file, bytes) for file in images):
        yield from _cut_files(images, template, max_images, room)
        return
    if isinstance(images, bytes):
        raise InputError("images: expected an array, or a sequence of files as bytes, found one bytes")
    if any(isinstance(one, str | PathLike) for one in (images if isinstance(images, list | tuple) else [images])):
        raise InputError(
            "images: expected an array, or a sequence of files as bytes, found paths; Path(path).read_bytes() reads one"
        )
    array = np.asarray(images)
    yield from _cut_array(check_images(array[None] if array.ndim == 3 else array), template, max_images, room)


def _cut_array(
    images: Images, template: classifier_pb2.ClassifyRequest, max_images: int, room: int
) -> Iterator[Parcel]:
    """Equal parcels, but for the last."""
    size = images[0].nbytes
    step = min(max_images, room // size)
    if step < 1:
        raise InputError(f"images: expected at most {room} bytes an image, found {size}")
    uint8 = images.dtype == np.uint8
    dtype = classifier_pb2.DataType.UINT8 if uint8 else classifier_pb2.DataType.FLOAT32
    for start in range(0, len(images), step):
        part = images[start : start + step]
        request = classifier_pb2.ClassifyRequest()
        request.CopyFrom(template)
        request.tensor.dtype = dtype
        request.tensor.shape.extend(part.shape)
        request.tensor.data = part.astype("u1" if uint8 else "<f4", copy=False).tobytes()
        yield Parcel(request=request, start=start, count=len(part))


def _cut_files(
    files: Sequence[bytes], template: classifier_pb2.ClassifyRequest, max_images: int, room: int
) -> Iterator[Parcel]:
    """Parcels of as many files as fit."""
    if not files:
        raise InputError("images: expected at least one image, found none")
    sizes = [len(file) + _FILE_BYTES for file in files]
    start = 0
    while start < len(files):
        if sizes[start] > room:
            raise InputError(f"images[{start}]: expected at most {room - _FILE_BYTES} bytes, found {len(files[start])}")
        stop, taken = start, 0
        while stop < len(files) and stop - start < max_images and taken + sizes[stop] <= room:
            taken += sizes[stop]
            stop += 1
        request = classifier_pb2.ClassifyRequest()
        request.CopyFrom(template)
        request.encoded.images.extend(files[start:stop])
        yield Parcel(request=request, start=start, count=stop - start)
        start = stop
