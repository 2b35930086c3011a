"""Cutting images into requests."""

from pathlib import Path

import numpy as np
import pytest

from detector.errors import InputError
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.parcels import Parcel, cut

TEMPLATE = pb.ClassifyRequest(model="m", request_id="r", return_member_probabilities=True)


def parcels(images: object, *, max_images: int = 1000, max_message_bytes: int = 1 << 20) -> list[Parcel]:
    found = list(cut(images, TEMPLATE, max_images=max_images, max_message_bytes=max_message_bytes))
    for parcel in found:
        assert parcel.request.ByteSize() <= max_message_bytes
        assert (parcel.request.model, parcel.request.request_id) == ("m", "r")
        assert parcel.request.return_member_probabilities
    return found


def rejoined(found: list[Parcel]) -> np.ndarray:
    dtypes = {pb.UINT8: np.uint8, pb.FLOAT32: np.float32}
    arrays: list[np.ndarray] = []
    for parcel in found:
        tensor = parcel.request.tensor
        assert parcel.start == sum(len(array) for array in arrays)
        arrays.append(np.frombuffer(tensor.data, dtypes[tensor.dtype]).reshape(tuple(tensor.shape)))
        assert parcel.count == len(arrays[-1])
    return np.concatenate(arrays)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("max_images", "counts"), [(10, [10]), (4, [4, 4, 2]), (1, [1] * 10), (99, [10])])
def test_arrays_are_cut_at_so_many_images(dtype: type, max_images: int, counts: list[int]) -> None:
    images: np.ndarray = np.random.default_rng(0).integers(0, 2, (10, 3, 4, 5)).astype(dtype)
    found = parcels(images, max_images=max_images)
    assert [parcel.count for parcel in found] == counts
    assert rejoined(found).dtype == images.dtype
    np.testing.assert_array_equal(rejoined(found), images)


def test_arrays_are_cut_at_so_many_bytes() -> None:
    images = np.zeros((10, 1, 100, 100), np.uint8)
    found = parcels(images, max_message_bytes=35_000)
    assert [parcel.count for parcel in found] == [3, 3, 3, 1]


def test_what_is_not_contiguous_is_sent_right() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8).transpose(0, 3, 1, 2)[::2]
    np.testing.assert_array_equal(rejoined(parcels(images)), images)


def test_one_image_needs_no_first_axis() -> None:
    (one,) = parcels(np.zeros((1, 8, 8), np.float32))
    assert list(one.request.tensor.shape) == [1, 1, 8, 8]


def test_files_are_cut_at_images_and_bytes() -> None:
    files = [bytes([number]) * size for number, size in enumerate((10, 10, 10, 500, 500, 10))]
    found = parcels(files, max_images=2, max_message_bytes=1000)
    assert [parcel.count for parcel in found] == [2, 2, 2]
    found = parcels(files, max_message_bytes=900)
    assert [parcel.count for parcel in found] == [4, 2]
    assert [parcel.start for parcel in found] == [0, 4]
    assert [file for parcel in found for file in parcel.request.encoded.images] == files


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8), np.float32), r"images: expected shape \(N, C, H, W\), found \(8, 8\)"),
        (np.zeros((1, 1, 8, 8)), "images: expected uint8 or float32, found float64"),
        (np.zeros((1, 1, 8, 8), ">f4"), "images: expected uint8 or float32, found >f4"),
        (np.zeros((0, 1, 8, 8), np.uint8), "images: expected at least one image, found none"),
        (np.full((3, 1, 8, 8), np.nan, np.float32), r"images\[0\]: expected values in \[0, 1\], found nan"),
        (np.zeros((1, 1, 900, 900), np.uint8), "images: expected at most .* bytes an image, found 810000"),
        ([], "images: expected at least one image, found none"),
        ([b"x", bytes(800_000)], r"images\[1\]: expected at most .* bytes, found 800000"),
        (b"x", "images: expected an array, or a sequence of files as bytes, found one bytes"),
        ("x.png", r"found paths; Path\(path\).read_bytes\(\) reads one"),
        (Path("x.png"), "images: expected an array, or a sequence of files as bytes, found paths"),
        (["x.png", "y.png"], "images: expected an array, or a sequence of files as bytes, found paths"),
        ([b"x", Path("x.png")], "images: expected an array, or a sequence of files as bytes, found paths"),
        (np.zeros((1, 3, 4, 5)), r"images: expected uint8 or float32, found float64; astype\(np.float32\)"),
    ],
)
def test_what_is_no_images_is_refused_before_it_is_sent(images: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parcels(images, max_message_bytes=700_000)
