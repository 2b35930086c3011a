"""Every row of the error table, over a real channel: alone, and in the middle of a stream."""

import io
import re
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2 as pb
from tests.serving.conftest import SHAPE, Served, picture, request

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MAX_IMAGES = 6
MAX_BYTES = 50_000
MAX_PIXELS = 10_000


def tensor(
    shape: tuple[int, ...] = (1, *SHAPE), data: bytes | None = None, dtype: int = pb.FLOAT32, **fields: Any
) -> pb.ClassifyRequest:
    """A tensor that may not fit."""
    content = bytes(4 * max(0, int(np.prod(shape)))) if data is None else data
    return pb.ClassifyRequest(tensor=pb.Tensor(dtype=dtype, shape=shape, data=content), **fields)  # type: ignore[arg-type]


def floats(value: float, *, image: int = 0) -> pb.ClassifyRequest:
    """Three images, one pixel of one of them as given."""
    images = np.zeros((3, *SHAPE), np.float32)
    images[image, 0, 5, 2] = value
    return tensor(images.shape, images.tobytes())


def file(mode: str = "L", size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """An image file."""
    content = io.BytesIO()
    Image.new(mode, size).save(content, kind)
    return content.getvalue()


def encoded(*files: bytes) -> pb.ClassifyRequest:
    """Image files as a request."""
    return pb.ClassifyRequest(encoded=pb.EncodedImages(images=files))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""
    honest = file()
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + honest[24:29]
    return honest[:12] + header + zlib.crc32(header).to_bytes(4, "big") + honest[33:]


ROWS = {
    "no input": (pb.ClassifyRequest(), INVALID, "input: expected a tensor or encoded images, found neither"),
    "no dtype": (tensor(dtype=0), INVALID, "tensor.dtype: expected UINT8 or FLOAT32, found DATA_TYPE_UNSPECIFIED"),
    "unknown dtype": (tensor(dtype=77), INVALID, "tensor.dtype: expected UINT8 or FLOAT32, found 77"),
    "no shape": (tensor(()), INVALID, "tensor.shape: expected (N, 1, 8, 8) or (1, 8, 8), found ()"),
    "two axes": (tensor((8, 8)), INVALID, "tensor.shape: expected (N, 1, 8, 8) or (1, 8, 8), found (8, 8)"),
    "five axes": (tensor((1, 1, *SHAPE)), INVALID, "tensor.shape: expected (N, 1, 8, 8) or (1, 8, 8), found (1, 1,"),
    "a thousand axes": (tensor((1,) * 1000), INVALID, "found (1, 1, 1, 1, 1, 1, 1, 1, ...)"),
    "channels last": (
        tensor((1, 8, 8, 1)),
        INVALID,
        "found (1, 8, 8, 1); np.moveaxis(images, -1, -3) puts channels first",
    ),
    "other size": (tensor((2, 1, 8, 9)), INVALID, "found (2, 1, 8, 9)"),
    "no images": (tensor((0, *SHAPE)), INVALID, "tensor.shape: expected 1 to 6 images, found 0"),
    "fewer than no images": (tensor((-3, *SHAPE)), INVALID, "tensor.shape: expected 1 to 6 images, found -3"),
    "too many images": (tensor((7, *SHAPE)), INVALID, "tensor.shape: expected 1 to 6 images, found 7"),
    "absurdly many": (tensor((2**62, *SHAPE), b""), INVALID, f"expected 1 to 6 images, found {2**62}"),
    "a byte short": (tensor(data=bytes(255)), INVALID, "tensor.data: expected 256 bytes for (1, 1, 8, 8) of float32"),
    "a byte more": (tensor(data=bytes(257)), INVALID, "found 257"),
    "bytes of uint8": (tensor(data=bytes(64)), INVALID, "tensor.data: expected 256 bytes"),
    "floats as uint8": (tensor(dtype=pb.UINT8), INVALID, "tensor.data: expected 64 bytes for (1, 1, 8, 8) of uint8"),
    "no data": (tensor(data=b""), INVALID, "tensor.data: expected 256 bytes"),
    "nan": (floats(np.nan, image=2), INVALID, "tensor.data[2]: expected values in [0, 1], found nan"),
    "infinity": (floats(np.inf), INVALID, "tensor.data[0]: expected values in [0, 1], found inf"),
    "minus infinity": (floats(-np.inf), INVALID, "tensor.data[0]: expected values in [0, 1], found -inf"),
    "below the range": (floats(-0.001, image=1), INVALID, "tensor.data[1]: expected values in [0, 1], found -0.001"),
    "above the range": (floats(255.0), INVALID, "tensor.data[0]: expected values in [0, 1], found 255.0"),
    "no files": (encoded(), INVALID, "encoded.images: expected 1 to 6 images, found 0"),
    "too many files": (encoded(*[file()] * 7), INVALID, "encoded.images: expected 1 to 6 images, found 7"),
    "no image": (encoded(*[file()] * 3, b"GIF89a"), INVALID, "encoded.images[3]: expected a PNG or JPEG, found 6 byt"),
    "empty file": (encoded(b""), INVALID, "encoded.images[0]: expected a PNG or JPEG, found 0 bytes"),
    "a GIF": (encoded(file(kind="GIF")), INVALID, "encoded.images[0]: expected a PNG or JPEG"),
    "half a file": (encoded(file(), file()[:40]), INVALID, "encoded.images[1]: expected a whole PNG, found one "),
    "colours": (encoded(file("RGB")), INVALID, "encoded.images[0]: expected 8-bit grey, found 8-bit RGB"),
    "16 bits": (encoded(file("I;16")), INVALID, "encoded.images[0]: expected 8"),
    "other pixels": (encoded(file(), file(size=(9, 8))), INVALID, "encoded.images[1]: expected 8 x 8 pixels, found 9"),
    "over-large": (
        encoded(file(size=(101, 100))),
        INVALID,
        "encoded.images[0]: expected at most 10000 pixels, found 1",
    ),
    "a bomb": (encoded(png_that_claims(65_000, 65_000)), INVALID, "encoded.images[0]: expected at most 10000 pixels"),
    "a long id": (
        request(1, request_id="z" * 257),
        INVALID,
        "request_id: expected at most 256 characters, found 257",
    ),
    "a long id with files": (
        pb.ClassifyRequest(encoded=pb.EncodedImages(images=[b"GIF89a"]), request_id="\N{SNOWMAN}" * 300),
        INVALID,
        "request_id: expected at most 256 characters, found 300",
    ),
    "unknown model": (
        request(1, model="nope"),
        grpc.StatusCode.NOT_FOUND,
        "model: expected tiny or twins, found 'nope'",
    ),
    "a long name": (request(1, model="n" * 9999), grpc.StatusCode.NOT_FOUND, f"found '{'n' * 100}...'"),
    "the members": (
        request(1, return_member_probabilities=True),
        grpc.StatusCode.PERMISSION_DENIED,
        "return_member_probabilities: expected false, found true; this server was started without --allow-members",
    ),
}


@pytest.fixture
def served(serve: Callable[..., Served], tiny: Detector, twins: Detector) -> Served:
    return serve(tiny, twins, max_images=MAX_IMAGES, max_message_bytes=MAX_BYTES, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(("bad", "code", "text"), ROWS.values(), ids=ROWS.keys())
def test_a_row(served: Served, bad: pb.ClassifyRequest, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError, match=re.escape(text)) as caught:
        served.stub.Classify(bad)
    assert caught.value.code() is code
    details = caught.value.details() or ""
    assert "\n" not in details

    answers = list(served.stub.ClassifyStream(iter([request(1), bad, request(2)])))
    assert [answer.WhichOneof("outcome") for answer in answers] == ["response", "status", "response"]
    status = answers[1].status
    assert (status.code, status.message) == (code.value[0], details)
    assert answers[1].request_id == bad.request_id[:256]


def test_what_all_rows_break_is_in_order_otherwise(served: Served) -> None:
    """The same requests without their fault are answered."""
    one = np.zeros((1, *SHAPE), np.float32)
    good = [
        tensor(),
        tensor(SHAPE),
        tensor((MAX_IMAGES, *SHAPE)),
        tensor(dtype=pb.UINT8, data=bytes(64)),
        tensor(one.shape, (one + 1).tobytes()),
        encoded(*[file()] * MAX_IMAGES),
        encoded(file(kind="JPEG")),
        request(1, model="twins"),
        request(1, request_id="\N{SNOWMAN}" * 256),
    ]
    for each in good:
        reply = served.stub.Classify(each)
        assert len(reply.results) >= 1
        assert reply.request_id == each.request_id


def test_a_message_over_the_limit_is_refused_by_grpc(served: Served) -> None:
    with pytest.raises(grpc.RpcError, match="larger than max") as caught:
        served.stub.Classify(tensor(data=bytes(MAX_BYTES)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert served.stub.GetModel(pb.GetModelRequest()).limits.max_message_bytes == MAX_BYTES


def test_compressed_zeros_are_bounded_too(served: Served) -> None:
    with pytest.raises(grpc.RpcError, match="larger than max") as caught:
        served.stub.Classify(tensor(data=bytes(100 * MAX_BYTES)), compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_text_too_long_for_a_trailer_arrives_cut(served: Served) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.GetModel(pb.GetModelRequest(model="\N{SNOWMAN}" * 10_000))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_refused_request_leaves_no_trace(served: Served) -> None:
    for bad, _, _ in ROWS.values():
        with pytest.raises(grpc.RpcError):
            served.stub.Classify(bad)
    assert served.stub.Classify(tensor(SHAPE, picture(3).tobytes())) == served.stub.Classify(request(3))
