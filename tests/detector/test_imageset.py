"""`images.npz`: what goes in comes out, and what does not fit is named."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats, check_images
from detector.inputspec import InputSpec
from tests.conftest import make_images

PIXELS = np.random.default_rng(0).integers(0, 256, size=(5, 3, 4, 6), dtype=np.uint8)
FLOATS = make_images(5, shape=(3, 4, 6))


def full() -> ImageSet:
    return ImageSet(
        images=FLOATS,
        labels=np.arange(5),
        source_index=np.arange(10, 15),
        clean=PIXELS,
        clean_correct=np.array([True, True, False, True, False]),
        success=np.array([True, False, False, True, False]),
        queries=np.array([3, 40, 1, 17, 40]),
        info={"attack": {"name": "pgd10-0.1", "eps": 0.1}, "dataset": "digits"},
    )


ARRAYS = ("images", "labels", "source_index", "clean", "clean_correct", "success", "queries")


@pytest.mark.parametrize("images", [full(), ImageSet(images=PIXELS)], ids=["all that can be known", "images alone"])
def test_round_trip(tmp_path: Path, images: ImageSet) -> None:
    file = tmp_path / "deep" / "images.npz"
    images.save(file)
    found = ImageSet.load(file)
    for name in ARRAYS:
        one, two = getattr(images, name), getattr(found, name)
        if one is None:
            assert two is None
        else:
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
    assert found.info == images.info
    assert found.attack == images.attack
    assert list(file.parent.iterdir()) == [file]


def test_an_existing_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "images.npz"
    ImageSet(images=PIXELS).save(file)
    before = file.read_bytes()

    def fail(handle: Any, **arrays: Any) -> None:
        handle.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        full().save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_mask_takes_all_that_is_known() -> None:
    mask = np.array([True, False, True, False, False])
    chosen = full().only(mask)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(chosen, name), getattr(full(), name)[mask])
    assert chosen.attack == "pgd10-0.1"


def test_lists_become_arrays() -> None:
    """From Python, labels come as lists too."""
    images = ImageSet(images=FLOATS, labels=[1, 2, 3, 4, 5], success=[True] * 5)  # type: ignore[arg-type]
    np.testing.assert_array_equal(images.only(np.arange(5) > 2).labels, [4, 5])


def test_pixels_become_numbers() -> None:
    np.testing.assert_array_equal(as_floats(PIXELS), (PIXELS / np.float32(255)).astype(np.float32))
    assert as_floats(np.full((1, 1, 1, 1), 255, dtype=np.uint8)) == 1.0
    assert as_floats(FLOATS) is FLOATS


def changed(at: tuple[int, ...], value: float) -> Any:
    images = FLOATS.copy()
    images[at] = value
    return images


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (changed((3, 0, 1, 2), np.nan), r"images\[3\]: expected values in \[0, 1\], found nan"),
        (changed((2, 2, 3, 5), np.inf), r"images\[2\]: expected values in \[0, 1\], found inf"),
        (changed((4, 0, 0, 0), 1.0000001), r"images\[4\]: expected values in \[0, 1\], found 1.0000001"),
        (changed((0, 0, 0, 0), -0.5), r"images\[0\]: expected values in \[0, 1\], found -0.5"),
        (np.zeros((3, 4, 6), dtype=np.float32), r"images: expected shape \(N, C, H, W\), found \(3, 4, 6\)"),
        (np.zeros((0, 3, 4, 6), dtype=np.uint8), "images: expected at least one image, found none"),
        (FLOATS.astype(np.float64), "images: expected uint8 or float32, found float64"),
        (FLOATS.astype(np.float16), "images: expected uint8 or float32, found float16"),
        (PIXELS.astype(np.int64), "images: expected uint8 or float32, found int64"),
        (PIXELS.astype(bool), "images: expected uint8 or float32, found bool"),
        (FLOATS.astype(">f4"), "images: expected uint8 or float32, found >f4"),
    ],
)
def test_images_that_do_not_fit(tmp_path: Path, images: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        ImageSet(images=images)
    np.savez(tmp_path / "images.npz", images=images)
    with pytest.raises(InputError, match=rf"^{tmp_path}/images.npz: {reason}"):
        ImageSet.load(tmp_path / "images.npz")


def test_the_first_bad_image_is_named() -> None:
    images = changed((3, 0, 0, 0), 2.0)
    images[4, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"^report\[3\]: .* found 2.0"):
        check_images(images, "report")


def test_the_borders_are_inside() -> None:
    check_images(changed((0, 0, 0, 0), 0.0))
    check_images(changed((0, 0, 0, 0), 1.0))


def test_images_without_pixels_are_left_to_the_shapes_check() -> None:
    empty = np.zeros((2, 3, 0, 0), dtype=np.float32)
    assert check_images(empty) is empty


def test_a_spec_checks_the_shape() -> None:
    spec = InputSpec(shape=(3, 4, 6))
    assert spec.check(FLOATS) is FLOATS
    with pytest.raises(InputError, match=r"^images: expected shape \(N, 3, 4, 7\), found \(5, 3, 4, 6\)"):
        InputSpec(shape=(3, 4, 7)).check(FLOATS)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"labels": np.arange(4)}, r"labels: expected \(5,\) integers, found \(4,\) int64"),
        ({"labels": np.arange(5.0)}, r"labels: expected \(5,\) integers, found \(5,\) float64"),
        ({"source_index": np.zeros((5, 1), dtype=np.int64)}, r"source_index: expected \(5,\) integers"),
        ({"success": np.arange(5)}, r"success: expected \(5,\) booleans, found \(5,\) int64"),
        ({"queries": np.arange(4)}, r"queries: expected \(5,\) integers, found \(4,\) int64"),
        ({"queries": np.full(5, 2.5)}, r"queries: expected \(5,\) integers, found \(5,\) float64"),
        ({"queries": np.array([1, 2, 0, 3, 4])}, "queries: expected at least 1 for each image, found 0"),
        ({"clean_correct": np.ones(6, dtype=bool)}, r"clean_correct: expected \(5,\) booleans, found \(6,\) bool"),
        ({"clean": FLOATS[:4]}, r"clean: expected shape \(5, 3, 4, 6\), found \(4, 3, 4, 6\)"),
        ({"clean": changed((1, 0, 0, 0), np.nan)}, r"clean\[1\]: expected values in \[0, 1\], found nan"),
        ({"info": np.array("{")}, "info: expected JSON"),
        ({"info": np.array("[" * 100_000)}, "info: expected JSON"),
        ({"info": np.array("[1]")}, "info: expected a JSON object, found list"),
    ],
)
def test_what_is_known_has_to_fit(tmp_path: Path, known: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "images.npz", images=FLOATS, **known)
    with pytest.raises(InputError, match=rf"images.npz: {reason}"):
        ImageSet.load(tmp_path / "images.npz")
    if "info" not in known:
        with pytest.raises(InputError, match=f"^{reason}"):
            ImageSet(images=FLOATS, **known)


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return pytest.fail, ("was unpickled",)

    for name in ("images", "labels"):
        arrays: dict[str, Any] = {"images": FLOATS, name: np.array([Trap()] * 5, dtype=object)}
        np.savez(tmp_path / "images.npz", **arrays)
        with pytest.raises(InputError, match=r"images.npz: expected an .npz archive of plain arrays"):
            ImageSet.load(tmp_path / "images.npz")


def test_unknown_arrays_are_left_alone(tmp_path: Path) -> None:
    """Also where they could not be read."""
    np.savez(tmp_path / "images.npz", images=FLOATS, more=np.array([None], dtype=object))
    assert len(ImageSet.load(tmp_path / "images.npz")) == 5


def test_files_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    with pytest.raises(InputError, match=r"images.npz: expected an images .npz, found no file"):
        ImageSet.load(file)
    with pytest.raises(InputError, match=r"expected an .npz archive of plain arrays, found none"):
        ImageSet.load(tmp_path)
    for content in (b"", b"text", b"PK\x03\x04", b"\x80\x04K\x01."):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"images.npz: expected an .npz archive of plain arrays, found none"):
            ImageSet.load(file)
    np.save(tmp_path / "one.npy", FLOATS)
    with pytest.raises(InputError, match=r"one.npy: expected an .npz archive, found a single array"):
        ImageSet.load(tmp_path / "one.npy")
    np.savez(file, pixels=FLOATS, labels=np.arange(5))
    with pytest.raises(InputError, match=r"images.npz: expected an array 'images', found labels"):
        ImageSet.load(file)


def test_damaged_files_give_input_errors_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    full().save(file)
    content = file.read_bytes()
    generator = np.random.default_rng(2)
    refused = 0
    for position in generator.choice(len(content), size=400, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= int(generator.integers(1, 256))
        file.write_bytes(damaged)
        try:
            ImageSet.load(file)
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ")  # noqa: PT017
    assert refused > 200


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.npz"
    ImageSet(images=FLOATS).save(file)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        start = archive.infolist()[0].header_offset
    central = content.index(b"PK\x01\x02")
    content[start + 6] |= 1
    content[central + 8] |= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"expected an .npz archive of plain arrays, found none .*encrypted"):
        ImageSet.load(file)


def test_info_is_json(tmp_path: Path) -> None:
    full().save(tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz", allow_pickle=False) as file:
        assert json.loads(str(file["info"])) == full().info


def test_rows_are_those_of_the_data_set_or_else_the_places() -> None:
    assert full().rows.tolist() == [10, 11, 12, 13, 14]
    assert ImageSet(images=PIXELS).rows.tolist() == [0, 1, 2, 3, 4]
