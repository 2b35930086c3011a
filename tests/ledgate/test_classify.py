"""`ledgate classify`: the same answers from a bundle and from a server."""

import json
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
    ("words", "message"),
    [
        (["nowhere", "0.png"], "expected a bundle's folder or HOST:PORT"),
        (["{bundle}", "missing.png"], "missing.png"),
        (["{bundle}", "{text}"], "expected a PNG or JPEG"),
        (["{bundle}", "a.npz", "b.npz"], "expected one .npz or image files"),
        (["127.0.0.1:1", "{image}"], "ledgate classify: "),
    ],
    ids=["no source", "no file", "not an image", "two archives", "no server"],
)
def test_refusals_are_one_line(
    words: list[str], message: str, calibrated: Bundle, files: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "text").write_text("no image")
    known = {"bundle": str(calibrated.path), "text": "text", "image": files[1]}
    assert main(["classify", *(word.format(**known) for word in words)]) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("\n") == 1
    assert message in caught.err
