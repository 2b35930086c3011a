"""Images read a batch at a time, against the same images read at once; and what is refused, by its name."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.errors import InputError
from detector.folderimages import FolderImages
from detector.imageset import ImageSet
from detector.inputs import digest, open_images
from detector.inputspec import InputSpec
from detector.npzimages import NpzImages
from tests.conftest import CLASSES, make_images

SPEC = InputSpec(shape=(3, 5, 4))
NAMES = ("cat", "dog", "fox")


def arrays(count: int = 10, dtype: Any = np.float32) -> dict[str, Any]:
    images = make_images(count)
    images = (images * 255).astype(np.uint8) if dtype == np.uint8 else images
    return {
        "images": images,
        "clean": images[::-1].copy(),
        "labels": np.arange(count) % CLASSES,
        "source_index": np.arange(count) + 5,
        "success": np.arange(count) % 2 == 0,
        "clean_correct": np.ones(count, dtype=np.bool_),
        "info": np.array('{"attack": {"name": "fgsm-0.1"}}'),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "compressed"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8], ids=["floats", "bytes"])
def test_an_archive_against_the_whole(tmp_path: Path, save: Any, dtype: Any) -> None:
    path = tmp_path / "images.npz"
    save(path, **arrays(dtype=dtype))
    whole, found = ImageSet.load(path), NpzImages.open(path)
    assert len(found) == len(whole) == 10
    assert found.shape == whole.images.shape
    for name in ("labels", "source_index", "success", "clean_correct"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert found.attack == whole.attack == "fgsm-0.1"
    assert found.has_origins
    assert whole.has_origins
    for start in (0, 3, 9, 10):
        read, expected = list(found.batches(4, start)), list(whole.batches(4, start))
        assert [batch.dtype for batch in read] == [batch.dtype for batch in expected]
        for one, two in zip(read, expected, strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(np.concatenate(list(found.origins(4))), whole.clean)
    np.testing.assert_array_equal(np.concatenate(list(whole.origins(4))), whole.clean)
    rows = np.array([7, 0, 7, 3])
    np.testing.assert_array_equal(found.take(rows), whole.take(rows))
    assert found.take(rows[:0]).shape == (0, *whole.images.shape[1:])


def test_without_origins_the_images_are_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=make_images(5))
    found = NpzImages.open(tmp_path / "a.npz")
    assert not found.has_origins
    assert (found.labels, found.source_index, found.success, found.attack) == (None, None, None, None)
    np.testing.assert_array_equal(np.concatenate(list(found.origins(2))), make_images(5))


def bad(image: int, value: float) -> Any:
    images = make_images(10)
    images[image, 0, 2, 2] = value
    return images


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"images": np.zeros((2, 8, 8), np.float32)}, r"images: expected shape \(N, C, H, W\), found \(2, 8, 8\)"),
        ({"images": np.zeros((2, 1, 8, 8))}, "images: expected uint8 or float32, found float64"),
        ({"images": np.zeros((0, 1, 8, 8), np.float32)}, "images: expected at least one image, found none"),
        ({"images": None}, "expected an array 'images', found clean_correct, info, labels, source_index, success"),
        ({"labels": np.zeros(3, int)}, r"labels: expected \(10,\) integers, found \(3,\)"),
        ({"success": np.zeros(10)}, r"success: expected \(10,\) booleans"),
        ({"clean": np.zeros((2, 1, 8, 8), np.float32)}, r"clean: expected shape \(10, 1, 8, 8\), found \(2, 1, 8, 8\)"),
        ({"info": np.array("{")}, "info: expected JSON"),
        ({"images": np.asfortranarray(make_images(10))}, "images: expected rows in C order, found Fortran order"),
    ],
)
def test_what_a_header_tells_is_refused_at_once(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{name: value for name, value in {**arrays(), **changed}.items() if value is not None})
    with pytest.raises(InputError, match=rf"^{path}: {reason}"):
        NpzImages.open(path)


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_a_bad_pixel_is_named_when_it_is_read(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=bad(6, value))
    with pytest.raises(InputError, match=rf"^{path}: images\[6\]: expected values in \[0, 1\], found "):
        list(NpzImages.open(path).batches(4))


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match=r"a\.npz: expected an images \.npz, found no file"):
        NpzImages.open(path)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match=r"a\.npz: expected an \.npz archive"):
        NpzImages.open(path)
    np.savez(path, images=make_images(100))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: "):  # the archive's checksum, or a pixel out of range
        list(NpzImages.open(path).batches(64))


def test_an_array_that_ends_too_early_is_named(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, make_images(10))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", array.getvalue()[:-256])
    with pytest.raises(InputError, match=r"a\.npz: images: expected 10 images, found the file to end before"):
        list(NpzImages.open(path).batches(4))


def picture(path: Path, seed: int, size: tuple[int, int] = (4, 5), kind: str = "PNG") -> np.ndarray:
    """Writes an image; returns what a lossless decoder makes of it."""
    pixels = np.random.default_rng(seed).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, kind)
    return np.asarray(Image.open(path)).transpose(2, 0, 1)


def test_a_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    names = ["b.png", "a.JPG", "c.jpeg", "sub/a.png", "B.png"]
    pixels = {
        name: picture(tmp_path / name, seed, kind="PNG" if name.endswith("png") else "JPEG")
        for seed, name in enumerate(names)
    }
    picture(tmp_path / ".hidden.png", 9)
    picture(tmp_path / ".trash" / "x.png", 9)
    found = FolderImages.open(tmp_path, SPEC, NAMES)
    expected = np.stack([pixels[name] for name in ("B.png", "a.JPG", "b.png", "c.jpeg", "sub/a.png")])
    assert len(found) == 5
    assert found.labels is None
    for start in range(6):
        batches = list(found.batches(2, start))
        np.testing.assert_array_equal(np.concatenate([expected[:0], *batches]), expected[start:])
    np.testing.assert_array_equal(found.take(np.array([3, 1])), expected[[3, 1]])
    np.testing.assert_array_equal(np.concatenate(list(found.origins(2))), expected)
    assert found.take(np.array([], dtype=np.int64)).shape == (0, 3, 5, 4)


def test_folders_of_classes_are_labels(tmp_path: Path) -> None:
    for seed, name in enumerate(["fox/1.png", "cat/2.png", "cat/more/3.png"]):
        picture(tmp_path / name, seed)
    found = FolderImages.open(tmp_path, SPEC, NAMES)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 2]


@pytest.mark.parametrize("stray", ["Cat/4.png", "4.png"])
def test_some_labels_are_refused(tmp_path: Path, stray: str) -> None:
    picture(tmp_path / "fox" / "1.png", 0)
    picture(tmp_path / stray, 1)
    with pytest.raises(InputError, match=f"^{tmp_path / stray}: expected every image in a folder named as a class"):
        FolderImages.open(tmp_path, SPEC, NAMES)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with pytest.raises(InputError, match=f"^{tmp_path / '3.png'}: expected a whole PNG"):
        list(FolderImages.open(tmp_path, SPEC, NAMES).batches(2))


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 0, size=(6, 6))
    with pytest.raises(InputError, match=f"^{tmp_path / '1.png'}: expected 4 x 5 pixels, found 6 x 6"):
        list(FolderImages.open(tmp_path, SPEC, NAMES).batches(2))
    resizing = SPEC.model_copy(update={"resize": True})
    assert next(FolderImages.open(tmp_path, resizing, NAMES).batches(2)).shape == (1, 3, 5, 4)


def test_other_files_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}: expected PNG or JPEG files, found none"):
        FolderImages.open(tmp_path, SPEC, NAMES)
    (tmp_path / "list.csv").write_text("x")
    with pytest.raises(InputError, match=f"^{tmp_path / 'list.csv'}: expected PNG and JPEG files only, found another"):
        FolderImages.open(tmp_path, SPEC, NAMES)


def test_the_bundle_decides_what_fits(tmp_path: Path, bundle: Bundle) -> None:
    np.savez(tmp_path / "a.npz", images=make_images(4, shape=(1, 4, 4)))
    with pytest.raises(InputError, match=r"a\.npz: expected shape \(N, 1, 8, 8\), found \(4, 1, 4, 4\)"):
        open_images(tmp_path / "a.npz", bundle)
    (tmp_path / "folder" / "class 3").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "folder" / "class 3" / "a.png")
    found = open_images(tmp_path / "folder", bundle)
    assert found.labels is not None
    assert found.labels.tolist() == [3]


def test_digests_change_with_content_and_names(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a.png", 0)
    picture(tmp_path / "two" / "a.png", 0)
    first = digest(tmp_path / "one")
    assert digest(tmp_path / "two") == first
    picture(tmp_path / "two" / "a.png", 1)
    assert digest(tmp_path / "two") != first
    (tmp_path / "one" / "a.png").rename(tmp_path / "one" / "b.png")
    assert digest(tmp_path / "one") != first
    content = (tmp_path / "one" / "b.png").read_bytes()
    assert digest(tmp_path / "one" / "b.png") == hashlib.sha256(content).hexdigest()
