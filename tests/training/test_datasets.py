"""Data sets as torchvision lays them out, in small; and what is said where they are missing or damaged."""

import gzip
import hashlib
import http.client
import pickle
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets as published
from numpy.typing import NDArray

from detector.errors import InputError
from training.datasets import DATASETS, Dataset, load
from training.splits import split_rows

TRAIN, TEST = 40, 10


def pixels(count: int, shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    """An array as MNIST's authors write it."""
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_mnist(root: Path, folder: str = "MNIST", labels: int = 10) -> NDArray[np.uint8]:
    """A data set in the layout of MNIST; returns its images, training images first."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    images = pixels(TRAIN + TEST, (28, 28), 0)
    for prefix, part in (("train", slice(TRAIN)), ("t10k", slice(TRAIN, None))):
        own = images[part]
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(own))
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(idx((np.arange(len(own)) % labels).astype(np.uint8)))
    return images


def write_cifar(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, *, key: str, names: list[str]
) -> NDArray[np.uint8]:
    """A data set in the layout of CIFAR, whose checksums torchvision is told; returns its images as (N, C, H, W)."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    images = pixels(TRAIN + TEST, (3, 32, 32), 1)
    count = TRAIN // len(kind.train_list)
    tables: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    start = 0
    for table, size in (("train_list", count), ("test_list", TEST)):
        for name, _ in getattr(kind, table):
            labels = [row % len(names) for row in range(start, start + size)]
            content = pickle.dumps({"data": images[start : start + size].reshape(size, -1), key: labels})
            (folder / name).write_bytes(content)
            tables[table].append([name, hashlib.md5(content).hexdigest()])
            start += size
    meta = pickle.dumps({kind.meta["key"]: names})
    (folder / kind.meta["filename"]).write_bytes(meta)
    for table, entries in tables.items():
        monkeypatch.setattr(kind, table, entries)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return images


def check(dataset: Dataset, images: NDArray[np.uint8]) -> None:
    """All images in their order, as bytes, those of the test part behind the others."""
    assert dataset.images.dtype == np.uint8
    assert dataset.images.flags.c_contiguous
    assert np.array_equal(dataset.images, images)
    assert dataset.labels.dtype == np.int64
    assert split_rows(dataset)["test"].tolist() == list(range(TRAIN, TRAIN + TEST))


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_and_its_likes(name: str, folder: str, tmp_path: Path) -> None:
    images = write_mnist(tmp_path, folder)
    dataset = load(name, root=tmp_path)
    check(dataset, images[:, None])
    assert dataset.name == name
    assert dataset.image_shape == (1, 28, 28)
    assert dataset.labels.tolist() == [row % 10 for part in (TRAIN, TEST) for row in range(part)]
    assert len(dataset.class_names) == 10


@pytest.mark.parametrize(
    ("name", "kind", "key", "names"),
    [
        ("cifar10", published.CIFAR10, "labels", [f"thing {label}" for label in range(10)]),
        ("cifar100", published.CIFAR100, "fine_labels", [f"thing {label}" for label in range(100)]),
    ],
    ids=["cifar10", "cifar100"],
)
def test_cifar(name: str, kind: Any, key: str, names: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    images = write_cifar(tmp_path, monkeypatch, kind, key=key, names=names)
    dataset = load(name, root=tmp_path)
    check(dataset, images)
    assert dataset.image_shape == (3, 32, 32)
    assert dataset.labels.tolist() == [row % len(names) for row in range(TRAIN + TEST)]
    assert dataset.class_names == tuple(names)


def test_the_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "elsewhere")
    monkeypatch.setenv("LEDGATE_DATA", str(tmp_path / "elsewhere"))
    assert len(load("mnist")) == TRAIN + TEST
    monkeypatch.delenv("LEDGATE_DATA")
    write_mnist(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert len(load("mnist")) == TRAIN + TEST


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits", "folder"}))
def test_a_missing_data_set_is_said_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        load(name, root=tmp_path / "nowhere")
    message = str(raised.value)
    assert message.startswith(f"data-root: expected {name} as torchvision lays it out in {tmp_path}/nowhere, found")
    assert "--data-root DIR" in message
    assert "--download" in message
    assert "\n" not in message
    assert not (tmp_path / "nowhere").exists()


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def scribble(file: Path) -> None:
    file.write_bytes(b"\x00\x00\xff\xff" + file.read_bytes()[4:])


def lock(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [shorten, empty, scribble, lock, Path.unlink])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_mnist_is_refused(damage: Callable[[Path], None], file: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    damage(tmp_path / "MNIST" / "raw" / file)
    with pytest.raises(InputError, match="data-root: expected mnist as torchvision lays it out"):
        load("mnist", root=tmp_path)


def test_a_damaged_cifar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, published.CIFAR10, key="labels", names=list("abcdefghij"))
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"data-root: expected cifar10 .* found none or a damaged one"):
        load("cifar10", root=tmp_path)


def test_a_label_out_of_range_is_named_by_its_row(tmp_path: Path) -> None:
    write_mnist(tmp_path, labels=12)
    with pytest.raises(InputError, match="mnist labels: expected 0 to 9, found 10 at image 10"):
        load("mnist", root=tmp_path)


def test_labels_for_other_images_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(TEST - 1, np.uint8)))
    with pytest.raises(InputError, match=r"mnist labels: expected shape \(50,\), found \(49,\)"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        ConnectionResetError("Connection reset by peer"),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_a_network_one_line_says_so(
    name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(InputError) as raised:
        load(name, root=tmp_path, download=True)
    message = str(raised.value)
    assert message.startswith(f"download: expected to fetch {name} from the network, found no way to (")
    assert f"bring it to {tmp_path} by other means" in message
    assert "\n" not in message
    assert capsys.readouterr().out == ""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A web server for a folder; yields its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_download_fetches_what_is_missing_and_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torchvision's own road, from a server of ours."""
    images = write_mnist(tmp_path / "theirs")
    served, resources = tmp_path / "served", []
    served.mkdir()
    for file, _ in published.MNIST.resources:
        content = gzip.compress((tmp_path / "theirs" / "MNIST" / "raw" / file.removesuffix(".gz")).read_bytes())
        (served / file).write_bytes(content)
        resources.append((file, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(published.MNIST, "resources", resources)
    with serving(served) as address:
        monkeypatch.setattr(published.MNIST, "mirrors", [address])
        check(load("mnist", root=tmp_path / "ours", download=True), images[:, None])
    assert capsys.readouterr().out == ""
    check(load("mnist", root=tmp_path / "ours", download=True), images[:, None])


def test_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(InputError, match=r"dataset: expected one of cifar10, cifar100, .*, mnist, found 'letters'"):
        load("letters")


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [("digits", 8, "0, since digits has a size of its own"), ("folder", -1, "at least 0")],
)
def test_a_size_that_cannot_be_is_refused(name: str, size: int, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"image_size: expected {expected}, found {size}"):
        load(name, root=tmp_path, image_size=size)
