"""PNG and JPEG to arrays, against Pillow; and everything that is refused, before it costs anything."""

import io
import resource
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from detector.decoding import MAX_PIXELS, decode_image
from detector.errors import InputError
from detector.inputspec import InputSpec

GREY = InputSpec(shape=(1, 6, 9))
RGB = InputSpec(shape=(3, 6, 9))
GENERATOR = np.random.default_rng(0)
GREY_PIXELS = GENERATOR.integers(0, 256, size=(6, 9), dtype=np.uint8)
RGB_PIXELS = GENERATOR.integers(0, 256, size=(6, 9, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG by hand, of what Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", header, *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"".join(parts)


def flat(width: int, height: int, depth: int, colour: int, samples: int, *more: bytes) -> bytes:
    """A PNG of equal rows."""
    row = b"\0" + bytes(range((width * samples * depth + 7) // 8))
    return png(width, height, depth, colour, row * height, *more)


def channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@pytest.mark.parametrize(("pixels", "spec"), [(GREY_PIXELS, GREY), (RGB_PIXELS, RGB)], ids=["grey", "RGB"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("PNG", {"optimize": True}), ("JPEG", {}), ("JPEG", {"quality": 30, "progressive": True})],
    ids=["PNG", "optimized PNG", "JPEG", "progressive JPEG"],
)
def test_exactly_as_pillow(pixels: NDArray[np.uint8], spec: InputSpec, kind: str, options: dict[str, Any]) -> None:
    content = saved(Image.fromarray(pixels), kind, **options)
    found = decode_image(content, spec)
    assert found.dtype == np.uint8
    assert found.shape == spec.shape
    assert found.flags.c_contiguous
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(found, channels_first(expected))
    if kind == "PNG":
        np.testing.assert_array_equal(found, channels_first(pixels))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_orientation_is_applied(
    kind: str, orientation: int, turn: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    image = Image.fromarray(RGB_PIXELS)
    exif = image.getexif()
    exif[0x0112] = orientation
    content = saved(image, kind, exif=exif)
    upright = turn(np.asarray(Image.open(io.BytesIO(content))))
    found = decode_image(content, InputSpec(shape=(3, *upright.shape[:2])))
    np.testing.assert_array_equal(found, channels_first(upright))


def test_a_turned_image_of_the_wrong_size_is_refused() -> None:
    image = Image.fromarray(RGB_PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6
    with pytest.raises(InputError, match="image: expected 9 x 6 pixels, found 6 x 9"):
        decode_image(saved(image, "JPEG", exif=exif), RGB)


def test_resized_and_coloured_where_declared() -> None:
    spec = InputSpec(shape=(3, 4, 5), resize=True, grey_to_rgb=True)
    for pixels in (GREY_PIXELS, RGB_PIXELS):
        image = Image.fromarray(pixels)
        expected = np.asarray(image.convert("RGB").resize((5, 4), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(decode_image(saved(image), spec), channels_first(expected))


def with_transparent_colour(pixels: NDArray[np.uint8]) -> bytes:
    transparent = 3 if pixels.ndim == 2 else (1, 2, 3)
    return saved(Image.fromarray(pixels), transparency=transparent)


def animated() -> bytes:
    frames = [Image.fromarray(RGB_PIXELS), Image.fromarray(255 - RGB_PIXELS)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


REFUSED: dict[str, tuple[bytes, InputSpec, str]] = {
    "smaller": (
        saved(Image.new("RGB", (8, 6))),
        RGB,
        "expected 9 x 6 pixels, found 8 x 6; resize it first",
    ),
    "transposed": (saved(Image.new("RGB", (6, 9))), RGB, "expected 9 x 6 pixels, found 6 x 9"),
    "grey for RGB": (saved(Image.fromarray(GREY_PIXELS)), RGB, "expected 8-bit RGB, found 8-bit grey"),
    "RGB for grey": (saved(Image.fromarray(RGB_PIXELS)), GREY, "expected 8-bit grey, found 8-bit RGB"),
    "RGB for grey, resizing": (
        saved(Image.fromarray(RGB_PIXELS)),
        InputSpec(shape=(1, 6, 9), resize=True, grey_to_rgb=True),
        "expected 8-bit grey, found 8-bit RGB",
    ),
    "16-bit grey": (flat(9, 6, 16, 0, 1), GREY, "expected 8 bits a channel, found I;16B"),
    "16-bit RGB": (flat(9, 6, 16, 2, 3), RGB, "expected 8 bits a channel, found RGB;16B"),
    "16-bit RGBA": (flat(9, 6, 16, 6, 4), RGB, "expected 8 bits a channel"),
    "4-bit grey": (flat(9, 6, 4, 0, 1), GREY, "expected 8 bits a channel, found L;4"),
    "1-bit grey": (saved(Image.new("1", (9, 6))), GREY, "expected 8-bit grey, found mode 1"),
    "palette": (saved(Image.fromarray(RGB_PIXELS).quantize(200)), RGB, "expected 8-bit RGB, found mode P"),
    "small palette": (saved(Image.fromarray(RGB_PIXELS).quantize(8)), RGB, "expected 8 bits a channel, found P;4"),
    "RGBA": (saved(Image.fromarray(RGB_PIXELS).convert("RGBA")), RGB, "expected 8-bit RGB, found mode RGBA"),
    "grey with alpha": (saved(Image.fromarray(GREY_PIXELS).convert("LA")), GREY, "expected 8-bit grey, found mode LA"),
    "transparent colour": (with_transparent_colour(RGB_PIXELS), RGB, "found 8-bit RGB with transparency"),
    "transparent grey": (with_transparent_colour(GREY_PIXELS), GREY, "found 8-bit grey with transparency"),
    "transparent grey to RGB": (
        with_transparent_colour(GREY_PIXELS),
        InputSpec(shape=(3, 6, 9), grey_to_rgb=True),
        "found 8-bit grey with transparency",
    ),
    "CMYK": (saved(Image.new("CMYK", (9, 6)), "JPEG"), RGB, "expected 8-bit RGB, found mode CMYK"),
    "GIF": (saved(Image.fromarray(RGB_PIXELS), "GIF"), RGB, "expected a PNG or JPEG"),
    "animated GIF": (animated(), RGB, "expected a PNG or JPEG"),
    "BMP": (saved(Image.fromarray(RGB_PIXELS), "BMP"), RGB, "expected a PNG or JPEG"),
    "TIFF": (saved(Image.fromarray(RGB_PIXELS), "TIFF"), RGB, "expected a PNG or JPEG"),
    "WebP": (saved(Image.fromarray(RGB_PIXELS), "WEBP"), RGB, "expected a PNG or JPEG"),
    "empty": (b"", RGB, "expected a PNG or JPEG, found 0 bytes that are none"),
    "text": (b"<svg>", RGB, "expected a PNG or JPEG, found 5 bytes that are none"),
    "no image in it": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""),
        RGB,
        "expected a whole PNG, found one that is cut off",
    ),
    "two channels": (saved(Image.fromarray(RGB_PIXELS)), InputSpec(shape=(2, 6, 9)), "no image file has 2 channels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    content, spec, reason = REFUSED[case]
    with pytest.raises(InputError, match=reason) as caught:
        decode_image(content, spec, where="image 7")
    assert str(caught.value).startswith("image 7: expected ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_files_are_refused(kind: str) -> None:
    pixels = GENERATOR.integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(pixels), kind)
    spec = InputSpec(shape=(3, 64, 64))
    assert decode_image(content, spec).shape == (3, 64, 64)
    for length in range(0, len(content) - 16, max(1, len(content) // 60)):
        words = (
            f"expected a whole {kind}, found one that is cut off or damaged" if length >= 8 else "that are none|cut off"
        )
        with pytest.raises(InputError, match=words):
            decode_image(content[:length], spec)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_files_give_input_errors_and_nothing_else(kind: str) -> None:
    content = saved(Image.fromarray(RGB_PIXELS), kind)
    generator = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about damaged metadata
        for position in range(0, len(content), max(1, len(content) // 400)):
            damaged = bytearray(content)
            damaged[position] ^= int(generator.integers(1, 256))
            try:
                assert decode_image(bytes(damaged), RGB).shape == RGB.shape
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017


def declared(width: int, height: int) -> bytes:
    """A tiny PNG that claims a size."""
    return png(width, height, 8, 2, bytes(100))


def declared_jpeg(width: int, height: int) -> bytes:
    content = bytearray(saved(Image.fromarray(RGB_PIXELS), "JPEG"))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Any) -> None:
        pytest.fail("was decoded")

    for name in ("Image.Image", "PngImagePlugin.PngImageFile", "JpegImagePlugin.JpegImageFile"):
        monkeypatch.setattr(f"PIL.{name}.load", load)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (declared(4097, 4096), "found 4097 x 4096"),
        (declared(60_000, 60_000), "found [0-9]+ x [0-9]+"),
        (declared(10_000, 10_000), "found "),
        (declared(2**31 - 1, 2**31 - 1), "found [0-9]+ x [0-9]+"),
        (declared_jpeg(65_000, 65_000), "found [0-9]+ x [0-9]+"),
        (declared_jpeg(9_000, 9_000), "found 9000 x 9000"),
    ],
    ids=["one row too many", "3.6 billion", "100 million", "PNG's limit", "JPEG's limit", "81 million"],
)
@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.usefixtures("no_decoding")
def test_a_bomb_is_refused_before_it_is_decoded(content: bytes, found: str, resize: bool) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputError, match=f"expected at most {MAX_PIXELS} pixels, {found}"):
        decode_image(content, InputSpec(shape=(3, 6, 9), resize=resize))
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (declared(4096, 4096), "4096 x 4096"),
        (declared(10, 6), "10 x 6"),
        (declared_jpeg(9, 7), "9 x 7"),
        (declared(6, 6), "6 x 6"),
    ],
    ids=["16 million", "a column too many", "a row too many", "a square"],
)
@pytest.mark.usefixtures("no_decoding")
def test_another_size_than_the_bundles_is_refused_before_it_is_decoded(content: bytes, found: str) -> None:
    with pytest.raises(InputError, match=f"image: expected 9 x 6 pixels, found {found}"):
        decode_image(content, RGB)


def test_the_limit_counts_pixels_and_can_be_set() -> None:
    content = saved(Image.fromarray(RGB_PIXELS))
    assert decode_image(content, RGB, max_pixels=54).shape == RGB.shape
    with pytest.raises(InputError, match="expected at most 53 pixels, found 9 x 6"):
        decode_image(content, RGB, max_pixels=53)


def test_a_text_bomb_is_refused_or_skipped() -> None:
    """A kilobyte of metadata that unpacks to hundreds of megabytes."""
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK * 8)))
    content = png(9, 6, 8, 2, (b"\0" + bytes(27)) * 6, text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decode_image(content, RGB)
    except InputError as error:
        assert "expected a whole PNG" in str(error)  # noqa: PT017
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize("content", [declared(10_000, 9_000), declared(60_000, 60_000)])
def test_nothing_is_said_to_whoever_runs_the_program(content: bytes) -> None:
    """Pillow warns of large images, each time of another size, where the bound is not its own."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            decode_image(content, RGB)
    assert said == []


def test_threads_leave_the_warnings_as_they_were() -> None:
    """A server decodes in many threads, and the filters of Python's warnings are one list for all."""
    before = list(warnings.filters)
    content = saved(Image.fromarray(RGB_PIXELS))
    threads = [threading.Thread(target=lambda: [decode_image(content, RGB) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
