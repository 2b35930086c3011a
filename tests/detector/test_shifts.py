"""Mild changes of images against SciPy, Pillow and cases that can be told by hand."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate

from detector.bundle import Bundle
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.shifts import (
    MILD,
    MOST,
    SHIFTS,
    Blur,
    Brightness,
    Jpeg,
    Noise,
    Rotation,
    Shift,
    changed_logits,
    shift_evidence,
)
from tests.conftest import make_images

GENERATOR = np.random.default_rng(0)
SMOOTH = np.stack([gaussian_filter(GENERATOR.random((33, 24)), 2) for _ in range(3)]).astype(np.float32)


def test_the_table() -> None:
    assert [shift.name for shift in SHIFTS] == [
        *("noise 0.02", "noise 0.05", "blur 1", "brightness x0.8", "brightness x1.2"),
        *("JPEG 75", "JPEG 50", "rotation 10", "rotation 20"),
    ]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (2, 1, 9)], ids=str)
@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_images_stay_images(shift: Shift, shape: tuple[int, int, int]) -> None:
    for image in (np.zeros(shape, np.float32), np.ones(shape, np.float32), make_images(1, shape=shape)[0]):
        before = image.copy()
        found = shift.apply(image, 3)
        assert found.shape == shape
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_array_equal(found, shift.apply(image, 3))
        np.testing.assert_array_equal(image, before)


def test_noise_has_its_sigma_and_its_own_draw_for_each_image() -> None:
    grey = np.full((1, 200, 200), 0.5, np.float32)
    one, two = Noise(sigma=0.05).apply(grey, 0), Noise(sigma=0.05).apply(grey, 1)
    assert (one - grey).std() == pytest.approx(0.05, rel=0.02)
    assert (one - grey).mean() == pytest.approx(0, abs=0.001)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    assert (Noise(sigma=0.05, seed=1).apply(grey, 0) != one).any()


def test_blur_against_scipy() -> None:
    noise = GENERATOR.random((2, 12, 9)).astype(np.float32)
    expected = np.stack([gaussian_filter(channel.astype(float), 1.0, mode="nearest", radius=3) for channel in noise])
    np.testing.assert_allclose(Blur(sigma=1.0).apply(noise, 0), expected, atol=1e-6)


def test_brightness() -> None:
    image = np.array([[[0.0, 0.5, 0.9]]], np.float32)
    np.testing.assert_allclose(Brightness(factor=1.2).apply(image, 0), [[[0, 0.6, 1.0]]], rtol=1e-6)
    np.testing.assert_allclose(Brightness(factor=0.8).apply(image, 0), [[[0, 0.4, 0.72]]], rtol=1e-6)


def test_jpeg_is_pillows() -> None:
    pixels = (SMOOTH * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "JPEG", quality=50)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(Jpeg(quality=50).apply(SMOOTH, 0), expected.astype(np.float32))
    grey = Jpeg(quality=95).apply(SMOOTH[:1], 0)
    assert 0 < np.abs(grey - SMOOTH[:1]).max() < 0.05


def test_rotation_against_scipy() -> None:
    found = Rotation(degrees=20).apply(SMOOTH, 0)
    padded = np.pad(SMOOTH, [(0, 0), (16, 16), (16, 16)], "symmetric")
    expected = rotate(padded, 20, axes=(2, 1), reshape=False, order=1)[:, 16:-16, 16:-16]
    assert np.abs(found - expected).max() < 0.03
    assert np.abs(found - SMOOTH).max() > 0.1


def test_a_rotation_by_nothing_and_a_full_turn() -> None:
    np.testing.assert_allclose(Rotation(degrees=360).apply(SMOOTH, 0), SMOOTH, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *((Noise, "sigma", value) for value in (0.0, -1.0, 1.5, float("nan"))),
        *((Blur, "sigma", value) for value in (0.0, float("inf"))),
        *((Brightness, "factor", value) for value in (0.0, -0.5)),
        *((Jpeg, "quality", value) for value in (0, 96)),
        *((Rotation, "degrees", value) for value in (0.0, 361.0)),
    ],
)
def test_what_is_no_change_is_refused(kind: type, field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{field}: expected more than 0 and at most "):
        kind(**{field: value})


def test_mild_ones_are_in_the_table_one_of_a_kind() -> None:
    assert {shift.name for shift in MILD} <= {shift.name for shift in SHIFTS}
    assert len({type(shift) for shift in MILD}) == len(MILD) == 5


def test_logits_of_changed_images(bundle: Bundle) -> None:
    detector = Detector(bundle, device="cpu", threads=1)
    images = make_images(70)
    found = dict(changed_logits(detector, ImageSet(images=images), MILD))
    assert list(found) == [shift.name for shift in MILD]
    for shift in MILD:
        expected = np.concatenate([detector.logits(shift.apply(image, n)[None]) for n, image in enumerate(images)])
        np.testing.assert_allclose(np.concatenate(found[shift.name]), expected, rtol=1e-5, atol=1e-5)


def test_evidence_against_image_by_image(calibrated: Bundle) -> None:
    detector = Detector(calibrated, device="cpu", threads=1)
    images = make_images(70)
    shifts = (Noise(sigma=0.1), Brightness(factor=0.5))
    found = shift_evidence(detector, ImageSet(images=images), shifts)
    assert list(found) == ["noise 0.1", "brightness x0.5"]
    for shift in shifts:
        changed = np.stack([shift.apply(image, number) for number, image in enumerate(images)])
        verdicts = detector.classify(changed)
        scores, flags = found[shift.name]
        assert scores == pytest.approx(verdicts.score, rel=1e-9)
        np.testing.assert_array_equal(flags, verdicts.adversarial)


def test_of_many_images_some_evenly_spaced(calibrated: Bundle) -> None:
    detector = Detector(calibrated, device="cpu", threads=1)
    images = make_images(2 * MOST)
    ((scores, _),) = shift_evidence(detector, ImageSet(images=images), (Brightness(factor=0.5),)).values()
    assert len(scores) == MOST
    last = detector.classify(images[-1:] * np.float32(0.5)).score
    assert last is not None
    assert scores[-1] == pytest.approx(last[0])


def test_without_a_calibration_there_is_nothing_to_flag(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="shifts: expected a calibrated bundle, found one without a threshold"):
        shift_evidence(Detector(bundle, device="cpu"), ImageSet(images=make_images(2)))
