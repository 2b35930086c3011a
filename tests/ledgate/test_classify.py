"""`ledgate classify`: the same answers from a bundle and from a server."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.detector import Detector
from detector.imageset import ImageSet
from ledgate.cli import main
from ledgate.serverprocess import serving
from tests.conftest import make_images


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three PNG files of the bundle's size."""
    paths = []
    for index, image in enumerate(make_images(3)):
        path = tmp_path / f"{index}.png"
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(path)
        paths.append(str(path))
    return paths


def answers(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main(["classify", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_files_through_a_bundle_and_a_server(
    calibrated: Bundle, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded = answers(capsys, str(calibrated.path), *files, "--device", "cpu")
    with serving(calibrated.path, tmp_path / "server.log") as address:
        served = answers(capsys, address, *files)
    assert embedded == served
    assert [row["image"] for row in embedded] == files
    pixels = np.stack([np.asarray(Image.open(file))[None] for file in files])
    verdicts = Detector.open(calibrated.path, device="cpu").classify(pixels)
    assert verdicts.score is not None
    assert verdicts.adversarial is not None
    assert [row["score"] for row in embedded] == verdicts.score.tolist()
    assert [row["adversarial"] for row in embedded] == verdicts.adversarial.tolist()


def test_an_npz(calibrated: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ImageSet(images=make_images(5)).save(tmp_path / "some.npz")
    rows = answers(capsys, str(calibrated.path), str(tmp_path / "some.npz"))
    assert [row["image"] for row in rows] == [f"some.npz[{index}]" for index in range(5)]


def test_the_table_says_when_there_is_no_calibration(
    bundle: Bundle, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(bundle.path), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("not calibrated") for line in lines[1:])


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["nowhere", "0.png"], 1, "nowhere: expected a bundle's folder or HOST:PORT"),
        (["{bundle}", "missing.png"], 1, "missing.png: expected a file, found none"),
        (["{bundle}", "."], 1, ".: expected a file, found a folder"),
        (["{bundle}", "{text}"], 1, "text: expected a PNG or JPEG"),
        (["{bundle}", "a.npz", "b.npz"], 2, "images: expected one .npz or image files"),
        (["{bundle}", "{image}", "--device=tpu"], 2, "device: expected auto, cpu"),
        (["127.0.0.1:1", "{image}"], 1, "127.0.0.1:1: expected a server"),
    ],
    ids=["no source", "no file", "a folder", "not an image", "two archives", "no device", "no server"],
)
def test_refusals_are_one_line(
    words: list[str], status: int, message: str, calibrated: Bundle, files: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "text").write_text("no image")
    known = {"bundle": str(calibrated.path), "text": "text", "image": files[1]}
    assert main(["classify", *(word.format(**known) for word in words)]) == status
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert caught.err.startswith(f"ledgate classify: {message}")


@pytest.mark.parametrize("served", [False, True], ids=["a bundle", "a server"])
def test_a_bad_file_among_many_is_named(
    calibrated: Bundle, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], *, served: bool
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    words = [*files * 100, str(bad), *files]  # at a server the second of two calls
    with serving(calibrated.path, tmp_path / "server.log") if served else nullcontext(str(calibrated.path)) as source:
        assert main(["classify", source, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ledgate classify: {bad}: expected a PNG or JPEG, found 8 bytes")
