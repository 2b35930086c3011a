"""Image folders: what is listed, what pixels they come to, and where those are kept."""

import dataclasses
import fcntl
import json
import os
import resource
import shlex
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import training.pixels
from detector.bundle import Bundle
from detector.decoding import decode_image
from detector.errors import InputError
from detector.inputspec import InputSpec
from ledgate.cli import main
from training.config import TrainConfig
from training.datasets import Dataset, load
from training.listing import list_folder
from training.loop import train
from training.splits import SPLITS, split_rows, take

CLASSES = ("cat", "dog", "owl")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(seed: int, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """Noise, as (width, height)."""
    width, height = size
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)


def fill(root: Path, count: int = 3, **options: Any) -> Path:
    """A folder of classes, of as many PNG files each."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(100 * label + number, **options).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fill(tmp_path / "images")


def kept(cache: Path) -> list[str]:
    """What lies in the cache beside locks and digests."""
    beside = (".lock", ".sha256")
    return sorted(file.name for file in cache.iterdir() if file.suffix not in beside) if cache.exists() else []


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def test_pictures_come_in_the_order_of_their_classes_and_names(root: Path) -> None:
    dataset = load("folder", root=root)
    assert dataset.class_names == CLASSES
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.labels.dtype == np.int64
    assert dataset.image_shape == (3, 10, 12)
    assert dataset.images.dtype == np.uint8
    assert dataset.test_rows is None
    for row, (label, number) in enumerate((label, number) for label in range(3) for number in range(3)):
        assert np.array_equal(dataset.images[row], rgb(picture(100 * label + number)))


def test_hidden_files_and_other_files_are_passed_over_and_folders_within_a_class_are_not(root: Path) -> None:
    plain = load("folder", root=root)
    (root / ".git").mkdir()
    (root / "README.txt").write_text("about")
    (root / "cat" / "Thumbs.db").write_bytes(b"")
    (root / "cat" / "._0.png").write_bytes(b"")
    (root / "cat" / ".ipynb_checkpoints").mkdir()
    picture(7).save(root / "cat" / ".ipynb_checkpoints" / "copy.png")
    again = load("folder", root=root)
    assert again.listing == plain.listing
    assert np.array_equal(again.images, plain.images)
    (root / "cat" / "more").mkdir()
    picture(7).save(root / "cat" / "more" / "X.JPEG", quality=95)
    assert list_folder(root).files[3] == "cat/more/X.JPEG"
    assert load("folder", root=root, image_size=9).listing != plain.listing


def test_train_and_test_are_parts_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "images"
    fill(root / "train", 20)
    fill(root / "test", 4)
    dataset = load("folder", root=root)
    assert dataset.class_names == CLASSES
    parts = split_rows(dataset)
    assert parts["test"].tolist() == list(range(60, 72))
    assert dataset.labels[60:].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 54,
        "validation": 3,
        "calibration": 3,
        "test": 12,
    }
    assert take(dataset, "test").info == {"dataset": "folder", "split": "test", "listing": dataset.listing}


def test_a_size_is_reached_as_a_server_reaches_it(root: Path) -> None:
    picture(5, (30, 17)).save(root / "cat" / "0.png")
    dataset = load("folder", root=root, image_size=8)
    assert dataset.image_shape == (3, 8, 8)
    spec = InputSpec(shape=(3, 8, 8), resize=True)
    for row, file in enumerate(list_folder(root).files):
        assert np.array_equal(dataset.images[row], decode_image((root / file).read_bytes(), spec))


def test_an_image_is_turned_as_its_camera_says(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    for file in root.rglob("*.png"):
        picture(1, (10, 12)).save(file, exif=exif)
    dataset = load("folder", root=root)
    assert dataset.image_shape == (3, 10, 12)
    assert np.array_equal(dataset.images[0], rgb(picture(1, (10, 12)).rotate(-90, expand=True)))


def test_images_are_grey_only_if_all_are(tmp_path: Path) -> None:
    root = fill(tmp_path / "grey", mode="L")
    grey = load("folder", root=root)
    assert grey.image_shape == (1, 10, 12)
    assert np.array_equal(grey.images[4, 0], np.asarray(picture(101, mode="L")))
    picture(3).save(root / "owl" / "2.png")
    mixed = load("folder", root=root)
    assert mixed.image_shape == (3, 10, 12)
    assert np.array_equal(mixed.images[:8], np.repeat(grey.images[:8], 3, axis=1))
    assert np.array_equal(mixed.images[8], rgb(picture(3)))


def test_more_images_than_one_thread_takes_at_a_time(tmp_path: Path) -> None:
    root = fill(tmp_path / "many", 50, size=(3, 2))
    dataset = load("folder", root=root)
    assert len(dataset) == 150
    for row in range(150):
        assert np.array_equal(dataset.images[row], rgb(Image.open(root / list_folder(root).files[row])))


def test_decoded_images_are_kept_and_found_again(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("folder", root=root)
    assert len(kept(cache)) == 1

    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(training.pixels, "_decode", refuse)
        assert np.array_equal(load("folder", root=root).images, first.images)
        assert load("folder", root=root).listing == first.listing
        shutil.copytree(root, root.parent / "moved")  # with the files' times
        assert np.array_equal(load("folder", root=root.parent / "moved").images, first.images)
        with pytest.raises(AssertionError):
            load("folder", root=root, image_size=9)
    picture(50).save(root / "dog" / "1.png")
    changed = load("folder", root=root)
    assert len(kept(cache)) == 2
    assert np.array_equal(changed.images[4], rgb(picture(50)))
    assert changed.listing != first.listing


def test_a_listing_is_that_of_names_and_contents_and_of_nothing_else(root: Path) -> None:
    """Not of a file's time, the folder's place or the size that images are stretched to."""
    listing = load("folder", root=root).listing
    shutil.copytree(root, root.parent / "copied", copy_function=shutil.copyfile)
    assert load("folder", root=root.parent / "copied").listing == listing
    assert load("folder", root=root, image_size=9).listing == listing
    first, second = root / "cat" / "0.png", root / "cat" / "1.png"
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)
    assert load("folder", root=root).listing != listing


def test_a_lost_digest_is_found_anew_and_a_damaged_one_is_said(root: Path, cache: Path) -> None:
    listing = load("folder", root=root).listing
    (digest,) = cache.glob("*.sha256")
    digest.unlink()
    assert load("folder", root=root).listing == listing
    digest.write_text("no digest")
    with pytest.raises(InputError, match=r"\.npy: expected decoded images, found a damaged file .*; remove it"):
        load("folder", root=root)


def test_images_that_do_not_fit_into_memory_stay_on_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = load("folder", root=root)
    assert not isinstance(small.images, np.memmap)
    monkeypatch.setattr(training.pixels, "IN_MEMORY", 0)
    large = load("folder", root=root)
    assert isinstance(large.images, np.memmap)
    assert np.array_equal(large.images, small.images)
    assert not isinstance(take(dataclasses.replace(large, test_rows=np.arange(3)), "test").images, np.memmap)


def test_nothing_is_read_of_images_that_stay_on_disk(tmp_path: Path) -> None:
    """A gigabyte of holes, of which no page is looked at."""
    count = 8_000
    images = np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 224, 224))
    before = pages()
    dataset = Dataset(name="large", images=images, labels=np.arange(count) % 10, class_names=tuple("abcdefghij"))
    assert sum(len(rows) for rows in split_rows(dataset).values()) == count
    few = pages() - before
    assert int(images[:1600].max()) == 0  # a fifth of it
    assert pages() - before > 4 * few


def pages() -> int:
    """How often this process has met a page of memory for the first time."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_minflt + usage.ru_majflt


def test_the_cache_is_at_home_by_default(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGATE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load("folder", root=root)
    assert len(kept(tmp_path / "home" / ".cache" / "ledgate")) == 1


def test_no_room_for_the_cache_is_said(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_bytes(b"")
    with pytest.raises(InputError, match=r"expected to keep decoded images there, found: .*; \$LEDGATE_CACHE names"):
        load("folder", root=root)
    cache.unlink()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"expected to keep decoded images there, found: No space left on device"):
        load("folder", root=root)
    assert kept(cache) == []


@pytest.mark.parametrize("limit", [training.pixels.IN_MEMORY, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("keep", [0, 50, -1])
def test_a_damaged_cache_is_said(
    keep: int, limit: int, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.pixels, "IN_MEMORY", limit)
    load("folder", root=root)
    (file,) = [cache / name for name in kept(cache)]
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"\.npy: expected decoded images, found a damaged file .*; remove it"):
        load("folder", root=root)
    file.unlink()
    assert len(load("folder", root=root)) == 9


def test_what_a_killed_process_left_is_cleared_away(root: Path, cache: Path) -> None:
    load("folder", root=root)
    (name,) = kept(cache)
    (cache / name).unlink()
    (cache / f".{name}.0123.part").write_bytes(b"half")
    load("folder", root=root)
    assert kept(cache) == [name]


def test_processes_of_one_training_wait_for_the_one_that_decodes(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load("folder", root=root).images
    (name,) = kept(cache)
    shutil.move(cache / name, cache.parent / name)
    waiting, flock = threading.Event(), fcntl.flock

    def noting(*arguments: Any) -> None:
        waiting.set()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", noting)
    monkeypatch.delattr(training.pixels, "_decode")
    with (cache / name).with_suffix(".lock").open("w") as lock, ThreadPoolExecutor(1) as other:
        flock(lock, fcntl.LOCK_EX)
        try:
            found = other.submit(load, "folder", root=root)
            assert waiting.wait(timeout=60)
            shutil.move(cache.parent / name, cache / name)
        finally:
            flock(lock, fcntl.LOCK_UN)
        assert np.array_equal(found.result(timeout=60).images, images)


def refusal(root: Path, **options: Any) -> str:
    """What is said on one line."""
    with pytest.raises(InputError) as raised:
        load("folder", root=root, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_damaged_image_is_named(root: Path, cache: Path) -> None:
    (root / "dog" / "1.png").write_bytes((root / "dog" / "1.png").read_bytes()[:80])
    assert refusal(root).startswith(f"{root}/dog/1.png: expected a whole PNG, found one that is cut off")
    assert kept(cache) == []


def test_the_first_image_may_be_the_damaged_one(root: Path) -> None:
    (root / "cat" / "0.png").write_bytes(b"no image")
    for size in (0, 8):
        assert refusal(root, image_size=size).startswith(f"{root}/cat/0.png: expected a PNG or JPEG, found 8 bytes")


def test_all_refused_images_are_found_at_once(root: Path) -> None:
    for name in ("dog/0.png", "owl/1.png", "owl/2.png"):
        picture(1, mode="RGBA").save(root / name)
    assert refusal(root) == (
        f"{root}/dog/0.png: expected 8-bit RGB, found mode RGBA; 2 more are refused: owl/1.png, owl/2.png"
    )


def test_many_refused_images_are_counted(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", mode="RGBA")
    assert refusal(root, image_size=8).endswith(
        "; 8 more are refused: cat/1.png, cat/2.png, dog/0.png, dog/1.png, dog/2.png, ..."
    )


def test_images_of_several_sizes_need_one(root: Path) -> None:
    picture(1, (10, 12)).save(root / "owl" / "0.png")
    assert refusal(root) == (
        f"{root}/owl/0.png: expected 12 x 10 pixels as in cat/0.png, found another size; "
        "--image-size N stretches all images to N x N"
    )
    assert load("folder", root=root, image_size=10).image_shape == (3, 10, 10)


def test_another_kind_of_image_is_refused_rather_than_left_out(root: Path) -> None:
    picture(1).save(root / "owl" / "new.webp")
    assert refusal(root).startswith(f"{root}/owl/new.webp: expected a PNG or JPEG")


def test_a_link_that_leads_nowhere_is_named(root: Path) -> None:
    (root / "owl" / "new.png").symlink_to(root / "gone.png")
    assert refusal(root) == f"{root}/owl/new.png: expected a readable file, found: No such file or directory"


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone").startswith("data-root: expected a folder of images for each class")
    assert refusal(tmp_path / "gone").endswith(f"in {tmp_path}/gone, found no folder there")


def test_two_classes_are_too_few(root: Path) -> None:
    shutil.rmtree(root / "owl")
    assert refusal(root).endswith(f"in {root}, of at least 3 classes, found 2: cat, dog")
    assert refusal(root / "cat").endswith(f"in {root}/cat, of at least 3 classes, found 0")


def test_a_class_without_images_is_named(root: Path) -> None:
    (root / "yak").mkdir()
    (root / "yak" / "about.txt").write_text("soon")
    assert refusal(root) == f"{root}/yak: expected images of a class, found none; put some there, or remove the folder"


def test_other_classes_for_testing_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "images" / "train")
    fill(tmp_path / "images" / "test")
    (tmp_path / "images" / "test" / "owl").rename(tmp_path / "images" / "test" / "yak")
    assert refusal(tmp_path / "images").endswith("found only one of them with owl, yak")


def test_a_part_that_would_be_left_out_is_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        fill(tmp_path / "images" / part)
    assert "expected nothing beside train and test" in refusal(tmp_path / "images")
    assert "found val;" in refusal(tmp_path / "images")


def test_the_parts_stay_when_the_images_are_of_another_size(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", 20)
    one, other = (split_rows(load("folder", root=root, image_size=size)) for size in (0, 8))
    assert all(np.array_equal(one[name], other[name]) for name in SPLITS)


def test_training_from_disk_is_training_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "images", 20)
    config = TrainConfig(dataset="folder", members=2, epochs=2, batch_size=8)
    states = []
    for limit in (training.pixels.IN_MEMORY, 0):
        monkeypatch.setattr(training.pixels, "IN_MEMORY", limit)
        ensemble, _ = train(config, tmp_path / f"run {limit}", root=root, progress=False).trained()
        states.append(ensemble.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_command_writes_a_part_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path / "images", 20)
    out = tmp_path / "clean.npz"
    words = ["data", "--dataset", "folder", "--data-root", root, "--image-size", "8", "--split", "test", "--json"]
    assert main([str(word) for word in (*words, "--out", out)]) == 0
    written = json.loads(capsys.readouterr().out)
    assert {**written, "listing": None} == {
        "path": str(out),
        "images": 12,
        "dataset": "folder",
        "split": "test",
        "listing": None,
    }
    assert written["listing"] == load("folder", root=root).listing
    with np.load(out) as archive:
        assert archive["images"].shape == (12, 3, 8, 8)
        assert np.array_equal(np.bincount(archive["labels"]), [4, 4, 4])


def test_the_road_of_a_folder_from_training_to_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = fill(tmp_path / "images", count=60, size=(20, 16))
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    road = ["--data-root", str(images), "--out"]
    settings = ["--members", "2", "--arch", "cnn", "--epochs", "1", "--batch-size", "16", "--augment", "none"]
    trained = ["train", "--dataset", "folder", "--image-size", "12", "--recipe", "digits", *settings, *road, str(run)]
    capsys.readouterr()
    assert main(trained) == 0
    printed = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ").replace("BUNDLE", str(bundle))
    program, *words = shlex.split(printed)
    assert (program, main(words)) == ("ledgate", 0)
    made = Bundle.open(bundle)
    assert made.labels == CLASSES
    assert made.input == InputSpec(shape=(3, 12, 12), resize=True, grey_to_rgb=True)

    # One file more, or another picture under the same name, and rows and parts mean something else.
    attack = ["attack", str(run), "--split", "test", "--attack", "fgsm", "--eps", "0.1"]
    another, replaced = images / "cat" / "another.png", images / "owl" / "7.png"
    for file in (another, replaced):
        picture(1, (20, 16)).save(file)
        capsys.readouterr()
        for words in (["export", str(run)], attack, trained[:-4]):
            out = str(run) if words[0] == "train" else str(tmp_path / "other")
            assert main([*words, *road, out]) == 1
            assert "expected the files that this run was trained on" in capsys.readouterr().err
        another.unlink(missing_ok=True)
