"""Images through the members a batch at a time: the same as at once, resumed where it stopped, in constant memory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle, write_bundle
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import Images, ImageSet
from detector.parts import pixel_digests
from detector.scan import Kept, scan
from detector.unfinished import Unfinished
from tests.conftest import CLASSES, make_images, make_members

PART = 4096


def logits_of(logits: Any, first: int) -> Kept:
    del first
    return {"logits": logits}


@pytest.fixture
def detector(bundle: Bundle) -> Detector:
    return Detector(bundle, device="cpu", threads=1)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_against_one_run(detector: Detector, count: int) -> None:
    images = make_images(count)
    found = scan(detector, ImageSet(images=images), logits_of, name="clean")
    np.testing.assert_allclose(found["logits"], detector.logits(images), rtol=1e-5, atol=1e-6)
    assert found["pixels"].shape == (count, 32)


def test_pixels_in_bytes_and_in_floats_have_one_digest() -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(5, 1, 8, 8), dtype=np.uint8)
    same = pixel_digests(images.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(pixel_digests(images), same)
    assert len(np.unique(same, axis=0)) == 5


class Breaking(ImageSet):
    """Images that come to an end before they should."""

    def batches(self, size: int, start: int = 0) -> Iterator[Images]:
        for number, batch in enumerate(super().batches(size, start)):
            if number == 66:
                raise KeyboardInterrupt
            yield batch


def test_interrupted_work_goes_on_behind_its_finished_parts(detector: Detector, tmp_path: Path) -> None:
    images = make_images(PART + 300)
    folder = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        scan(detector, Breaking(images=images), logits_of, name="clean", unfinished=Unfinished(folder, {"n": 1}))
    rest: list[int] = []

    class Noting(ImageSet):
        def batches(self, size: int, start: int = 0) -> Iterator[Images]:
            rest.append(start)
            return super().batches(size, start)

    again = Noting(images=images)
    found = scan(detector, again, logits_of, name="clean", unfinished=Unfinished(folder, {"n": 1}))
    assert rest == [PART]
    expected = scan(detector, ImageSet(images=images), logits_of, name="clean")
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)
    with pytest.raises(InputError, match="found that of another"):
        Unfinished(folder, {"n": 2})


def test_finished_work_is_not_done_again(detector: Detector, tmp_path: Path) -> None:
    images = ImageSet(images=make_images(70))
    one = scan(detector, images, logits_of, name="clean", unfinished=Unfinished(tmp_path, {}))
    two = scan(detector, images, lambda *_: pytest.fail("run again"), name="clean", unfinished=Unfinished(tmp_path, {}))
    np.testing.assert_array_equal(one["logits"], two["logits"])


def test_a_member_that_answers_with_nan_names_the_image(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = detector.logits

    def spoiled(images: Images) -> Any:
        logits = plain(images)
        logits[5 % len(logits)] = np.nan if len(images) == 6 else logits[5 % len(logits)]
        return logits

    monkeypatch.setattr(detector, "logits", spoiled)
    with pytest.raises(InputError, match=r"^clean: expected finite logits, found NaN or infinity for image 69$"):
        scan(detector, ImageSet(images=make_images(70)), logits_of, name="clean")


def test_images_that_do_not_fit(detector: Detector) -> None:
    with pytest.raises(InputError, match=r"^clean: expected shape \(N, 1, 8, 8\), found \(3, 1, 4, 4\)"):
        scan(detector, ImageSet(images=make_images(3, shape=(1, 4, 4))), logits_of, name="clean")


# Runs a command and prints what memory that took, in KiB. Linux hands `ru_maxrss` on from parent to child.
MEASURED = """
import re, sys
from ledgate.cli import main
status = main(sys.argv[1:])
sys.stderr.write(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def peak(*words: object) -> int:
    """Bytes of memory that a command took at most."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words), "--device", "cpu", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode in (0, 3), done.stderr
    return 1024 * int(done.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle of colour images."""
    from detector.calibrate import calibrate
    from detector.targets import TargetFpr

    folder = tmp_path_factory.mktemp("memory") / "colours"
    shape = (3, 32, 32)
    labels = [f"class {index}" for index in range(CLASSES)]
    write_bundle(folder, members=make_members(shape=shape), labels=labels, provenance={"command": "test"})
    clean = ImageSet(images=make_images(200, shape=shape))
    calibrate(folder, clean=clean, target=TargetFpr(0.2), device="cpu")
    return folder


def numbered(count: int) -> Images:
    """Different images (N, 3, 32, 32) uint8 that compress well."""
    images = np.zeros((count, 3, 32, 32), np.uint8)
    images[:, 0, 0, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
    return images


def save_npz(folder: Path, count: int) -> Path:
    np.savez_compressed(folder / f"{count}.npz", images=numbered(count))
    return folder / f"{count}.npz"


def save_folder(folder: Path, count: int) -> Path:
    """Files that are links to a few, since writing takes longer than reading."""
    source, target = folder / "few", folder / str(count)
    source.mkdir(exist_ok=True)
    target.mkdir()
    for number, image in enumerate(numbered(50)):
        Image.fromarray(image.transpose(1, 2, 0)).save(source / f"{number}.png")
    for number in range(count):
        (target / f"{number:06d}.png").hardlink_to(source / f"{number % 50}.png")
    return target


CALIBRATE = ("--target-fpr", "0.2")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the memory of a process")
@pytest.mark.parametrize(
    ("command", "words", "save", "few", "many"),
    [
        ("check", (), save_npz, 3_000, 30_000),
        ("check", (), save_folder, 1_000, 10_000),
        ("calibrate", CALIBRATE, save_npz, 3_000, 30_000),
    ],
    ids=["check an npz", "check a folder", "calibrate on an npz"],
)
def test_memory_does_not_grow_with_the_pixels(
    colours: Path, tmp_path: Path, command: str, words: tuple[str, ...], save: Any, few: int, many: int
) -> None:
    """All pixels in bytes would take twice the bound, and as floats, which the members take, eight times."""
    bundle = shutil.copytree(colours, tmp_path / "bundle")
    small, large = (peak(command, bundle, "--clean", save(tmp_path, count), *words) for count in (few, many))
    assert large - small < (many - few) * 3 * 32 * 32 / 2
