"""Requests that are built before the clock runs, so that building them is no part of what is measured."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.encoding import encode_image
from detector.errors import InputError
from detector.imageset import Images, as_floats
from protos.ledgate.v1 import classifier_pb2
from serving.modelinfo import ModelInfo
from serving.parcels import cut

# All requests together; a server that is asked the same again does the same work.
_POOL_BYTES: Final = 64 << 20
_RANDOM_IMAGES: Final = 256
_DRAWS: Final = 1024


class Format(StrEnum):
    """As what images travel."""

    UINT8 = "uint8"
    FLOAT32 = "float32"
    PNG = "png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A request as bytes.

    Attributes:
        number: Which of the pool it is.
        images: How many it has.
        content: The serialized message.
    """

    number: int
    images: int
    content: bytes


class Payloads:
    """A pool of requests, from which calls are drawn: sizes at random, the requests of a size in turn.

    Args:
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        sizes: Images of a call; each entry is drawn equally often, so that one named twice comes twice as often.
        info: The model that they are for.
        model: By which name it is asked for.
        form: As what images travel.
        seed: Of the draws.

    Raises:
        InputError: Images of another shape than the model's, or calls that the server would not take.
    """

    def __init__(
        self, images: Images, sizes: tuple[int, ...], *, info: ModelInfo, model: str, form: Format, seed: int
    ) -> None:
        if images.shape[1:] != info.shape:
            raise InputError(f"images: expected shape (N, {', '.join(map(str, info.shape))}), found {images.shape}")
        for size in sizes:
            if not 1 <= size <= info.max_images:
                raise InputError(f"batch: expected 1 to {info.max_images} images a call, found {size}")
        self._sizes = sizes
        self._turns = dict.fromkeys(sizes, 0)
        self._rng = np.random.default_rng(seed)
        self._draws: list[int] = []
        template = classifier_pb2.ClassifyRequest(model=model)
        room = _POOL_BYTES // len(self._turns)
        built = [
            one
            for size in self._turns
            for one in _build(images, size, form=form, template=template, info=info, room=room)
        ]
        self._pool: dict[int, list[Payload]] = {size: [] for size in self._turns}
        for number, (size, content) in enumerate(built):
            self._pool[size].append(Payload(number=number, images=size, content=content))

    def __len__(self) -> int:
        return sum(map(len, self._pool.values()))

    def next(self) -> Payload:
        """The next call's request."""
        if not self._draws:
            self._draws = self._rng.integers(len(self._sizes), size=_DRAWS).tolist()
        size = self._sizes[self._draws.pop()]
        pool, turn = self._pool[size], self._turns[size]
        self._turns[size] = (turn + 1) % len(pool)
        return pool[turn]


def random_images(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Noise of a shape (C, H, W), 256 images."""
    return np.random.default_rng(seed).integers(0, 256, (_RANDOM_IMAGES, *shape), dtype=np.uint8)


def _build(
    images: Images, size: int, *, form: Format, template: classifier_pb2.ClassifyRequest, info: ModelInfo, room: int
) -> list[tuple[int, bytes]]:
    """Requests of one size: each image in at least one, or as many as there is room for."""
    found: list[tuple[int, bytes]] = []
    while len(found) * size < len(images) and (not found or (len(found) + 1) * len(found[0][1]) <= room):
        rows = (len(found) * size + np.arange(size)) % len(images)
        limits = {"max_images": info.max_images, "max_message_bytes": info.max_message_bytes}
        parcel = next(iter(cut(_formed(images[rows], form), template, **limits)))
        if parcel.count < size:
            limit = info.max_message_bytes
            raise InputError(f"batch: expected calls of at most {limit} bytes, found {size} images that take more")
        found.append((size, parcel.request.SerializeToString()))
    return found


def _formed(images: Images, form: Format) -> Any:
    """Images as an array, or as a list of files."""
    if form is Format.FLOAT32:
        return as_floats(images)
    pixels = images if images.dtype == np.uint8 else np.rint(images * 255).astype(np.uint8)
    if form is Format.UINT8:
        return pixels
    if pixels.shape[1] not in (1, 3):
        raise InputError(f"format: expected grey or RGB images for png, found {pixels.shape[1]} channels")
    return [encode_image(image)[1] for image in pixels]
