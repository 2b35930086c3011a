"""Requests that are built beforehand: what they hold, and in which order they come."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from detector.decoding import decode_image
from detector.errors import InputError
from detector.inputspec import InputSpec
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.bench.payloads import Format, Payload, Payloads, random_images
from tests.serving.bench.conftest import SHAPE, images_of, info, pool

IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


def payloads(images: np.ndarray, *sizes: int, form: Format = Format.UINT8, **changes: Any) -> Payloads:
    return Payloads(images, sizes, info=info(**changes), model="some", form=form, seed=0)


def parsed(payload: Payload) -> pb.ClassifyRequest:
    return pb.ClassifyRequest.FromString(payload.content)


def sent(payload: Payload, dtype: type = np.uint8) -> np.ndarray:
    tensor = parsed(payload).tensor
    return np.frombuffer(tensor.data, dtype).reshape(tuple(tensor.shape))


def test_each_image_comes_and_then_all_come_again() -> None:
    requests = payloads(IMAGES, 2)
    found = np.concatenate([sent(requests.next()) for _ in range(3)])
    np.testing.assert_array_equal(found, IMAGES[[0, 1, 2, 3, 4, 0]])
    assert requests.next().number == 0


def test_a_call_may_have_more_images_than_there_are() -> None:
    np.testing.assert_array_equal(sent(payloads(IMAGES, 7).next()), IMAGES[[0, 1, 2, 3, 4, 0, 1]])


def test_a_request_names_the_model() -> None:
    assert parsed(payloads(IMAGES, 1).next()).model == "some"


def test_float32_is_the_same_pixels() -> None:
    found = sent(payloads(IMAGES, 5, form=Format.FLOAT32).next(), np.float32)
    np.testing.assert_array_equal(found, IMAGES.astype(np.float32) / np.float32(255))


def test_floats_as_uint8_are_rounded() -> None:
    images = np.full((1, *SHAPE), 0.6 / 255, np.float32)
    assert (sent(payloads(images, 1).next()) == 1).all()


def test_png_is_the_same_pixels() -> None:
    request = parsed(payloads(IMAGES, 5, form=Format.PNG).next())
    spec = InputSpec(shape=SHAPE)
    found = [decode_image(file, spec, where="file") for file in request.encoded.images]
    np.testing.assert_array_equal(np.stack(found), IMAGES)


def test_sizes_are_drawn_equally_often_and_one_named_twice_twice_as_often() -> None:
    requests = pool(1, 4, 4)
    counts = Counter(requests.next().images for _ in range(6000))
    assert counts[4] / 6000 == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / 6000))


def test_what_is_said_of_a_request_is_so() -> None:
    requests = pool(1, 3, 8)
    for _ in range(100):
        payload = requests.next()
        assert images_of(parsed(payload)) == payload.images


def test_numbers_tell_requests_apart() -> None:
    requests = pool(1, 3, 8)
    by_number: dict[int, set[bytes]] = {}
    for _ in range(500):
        payload = requests.next()
        by_number.setdefault(payload.number, set()).add(payload.content)
    assert sorted(by_number) == list(range(len(requests))) == list(range(8 + 3 + 1))
    assert all(len(contents) == 1 for contents in by_number.values())


def test_a_seed_gives_the_same_order() -> None:
    first, again, other = (pool(1, 4, seed=seed) for seed in (1, 1, 2))
    orders = [[requests.next().images for _ in range(50)] for requests in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]


def test_noise_has_the_shape_and_differs_by_seed() -> None:
    assert random_images((3, 4, 5), 0).shape[1:] == (3, 4, 5)
    assert (random_images((3, 4, 5), 0) != random_images((3, 4, 5), 1)).any()


@pytest.mark.parametrize(
    ("images", "sizes", "changes", "message"),
    [
        (IMAGES[:, :, :4], (1,), {}, r"images: expected shape \(N, 1, 8, 8\), found \(5, 1, 4, 8\)"),
        (IMAGES, (0,), {}, "batch: expected 1 to 64 images a call, found 0"),
        (IMAGES, (1, 65), {}, "batch: expected 1 to 64 images a call, found 65"),
        (IMAGES, (5,), {"max_message_bytes": 300}, "batch: expected calls of at most 300 bytes, found 5 images"),
    ],
    ids=["shape", "no image", "too many", "too large"],
)
def test_what_the_server_would_refuse_is_refused(
    images: np.ndarray, sizes: tuple[int, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        payloads(images, *sizes, **changes)


def test_png_of_five_channels_is_refused() -> None:
    with pytest.raises(InputError, match="format: expected grey or RGB images for png, found 5 channels"):
        payloads(np.zeros((1, 5, 8, 8), np.uint8), 1, form=Format.PNG, shape=(5, 8, 8))
