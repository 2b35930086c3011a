"""Batches on their way to the steps: the numbers of plain indexing, from memory and from disk."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.imageset import Images, as_floats
from training.feed import Feed, floats

CPU = torch.device("cpu")
COUNT = 40


def readers() -> list[str]:
    """The threads that read ahead."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("feed")]


def made(kind: str, where: Path) -> Images:
    """Images in memory or on disk; of all 256 values."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 3, 5, 4), dtype=np.uint8)
    pixels[0].flat[:] = np.arange(60)
    if kind == "floats":
        return as_floats(pixels)
    if kind == "disk":
        np.save(where / "images.npy", pixels)
        on_disk: Images = np.load(where / "images.npy", mmap_mode="r")
        assert isinstance(on_disk, np.memmap)
        return on_disk
    return pixels


LABELS = np.random.default_rng(1).integers(0, 7, COUNT)
PICKS = np.split(np.random.default_rng(2).permutation(COUNT), 5)


@pytest.mark.parametrize("kind", ["memory", "floats", "disk"])
def test_batches_are_plain_indexing_bit_for_bit(kind: str, tmp_path: Path) -> None:
    images = made(kind, tmp_path)
    feed = Feed(images, LABELS, CPU)
    assert len(feed) == COUNT
    batches = list(feed.batches(PICKS))
    assert len(batches) == len(PICKS)
    for rows, (batch, labels) in zip(PICKS, batches, strict=True):
        assert labels.dtype == torch.int64
        assert batch.numpy().dtype == images.dtype
        assert np.array_equal(batch.numpy(), images[rows])
        assert np.array_equal(floats(batch).numpy(), as_floats(images[rows]))
        assert np.array_equal(labels.numpy(), LABELS[rows])


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_no_batches_are_none(kind: str, tmp_path: Path) -> None:
    assert list(Feed(made(kind, tmp_path), LABELS, CPU).batches([])) == []


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_batches_are_not_the_images_themselves(kind: str, tmp_path: Path) -> None:
    images = made(kind, tmp_path)
    before = np.array(images)
    for batch, labels in Feed(images, LABELS, CPU).batches(PICKS):
        batch.zero_()
        labels.zero_()
    assert np.array_equal(images, before)


def test_every_8_bit_value_is_as_the_detector_has_it() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(floats(torch.from_numpy(values)).numpy(), as_floats(values))


@pytest.mark.gpu
def test_every_8_bit_value_is_the_same_on_a_gpu() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(floats(torch.from_numpy(values).cuda()).cpu().numpy(), as_floats(values))


def test_from_disk_one_batch_is_read_ahead_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(made("disk", tmp_path), LABELS, CPU)
    read: list[int] = []
    ahead = threading.Event()
    original = feed._read

    def noting(rows: np.ndarray) -> torch.Tensor:
        read.append(int(rows[0]))
        if len(read) > 1:
            ahead.set()
        return original(rows)

    monkeypatch.setattr(feed, "_read", noting)
    batches = feed.batches(PICKS)
    next(batches)
    assert ahead.wait(timeout=10)  # the second comes without being asked for
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert read == [int(rows[0]) for rows in PICKS[: len(read)]]
    assert len(read) <= 3


def test_an_error_of_the_reader_reaches_the_caller_in_its_place(tmp_path: Path) -> None:
    feed = Feed(made("disk", tmp_path), LABELS, CPU)
    batches = feed.batches([PICKS[0], np.array([COUNT])])
    next(batches)
    with pytest.raises(IndexError, match=f"index {COUNT} is out of bounds"):
        next(batches)
    assert readers() == []


def test_leaving_early_ends_the_reader(tmp_path: Path) -> None:
    feed = Feed(made("disk", tmp_path), LABELS, CPU)
    for _ in feed.batches(PICKS):
        assert len(readers()) == 1
        break
    assert readers() == []
