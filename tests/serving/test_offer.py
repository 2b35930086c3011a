"""Under which name a bundle is served: that of its path, a link's own, or one that was given."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detector.bundle import Bundle
from serving.client import Client
from serving.offer import Offer
from serving.opening import Opener
from tests.serving.conftest import PATIENCE_S, picture


@pytest.mark.parametrize(
    ("text", "name", "folder"),
    [
        ("v1", "v1", "v1"),
        ("/bundles/cars/", "cars", "/bundles/cars"),
        ("cars=v1", "cars", "v1"),
        ("cars=/bundles/a=b", "cars", "/bundles/a=b"),
        ("/bundles/a=b", "a=b", "/bundles/a=b"),
        ("../a=b", "a=b", "../a=b"),
        ("=v1", "=v1", "=v1"),
        ("v1=", "v1=", "v1="),
    ],
)
def test_a_name_may_come_before_the_folder(text: str, name: str, folder: str) -> None:
    offer = Offer.parse(text)
    assert (offer.name, offer.folder) == (name, Path(folder))


def test_a_folder_of_that_very_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Offer.parse("a=b") == Offer(Path("b"), "a")
    (tmp_path / "a=b").mkdir()
    assert Offer.parse("a=b") == Offer(Path("a=b"), "a=b")
    assert Offer.of(Path()).name == tmp_path.name
    assert Offer.of(Path("a=b/..")).name == tmp_path.name


def test_it_shows_as_it_was_given() -> None:
    assert [str(Offer.parse(text)) for text in ("x/v1", "cars=x/v1")] == ["x/v1", "cars=x/v1"]


def test_a_link_has_a_name_of_its_own(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cur").symlink_to(folder / "tiny")
    assert Bundle.open(tmp_path / "cur").name == "cur"
    assert Opener(device="cpu").read(tmp_path / "cur").name == "cur"
    assert Opener(device="cpu").read(tmp_path / "cur", "cars").name == "cars"
    assert Bundle.open(folder / "tiny" / ".." / "tiny").name == "tiny"


def test_two_folders_of_one_name_are_served_together(folder: Path, tmp_path: Path) -> None:
    """And all that says a name says the same: the ready line, the model, the reply, the metrics."""
    shutil.copytree(folder / "twins", tmp_path / "tiny")
    (tmp_path / "cur").symlink_to(folder / "tiny")
    command = [sys.executable, "-m", "ledgate", "serve", "--port=0", "--json", "--device=cpu", "--threads=1"]
    command += [str(folder / "tiny"), f"second={tmp_path / 'tiny'}", str(tmp_path / "cur")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            names = ["tiny", "second", "cur"]
            assert [model["name"] for model in ready["models"]] == names
            with Client(ready["address"], timeout_s=PATIENCE_S) as client:
                assert list(client.model().available) == names
                for name, found in zip(names, ready["models"], strict=True):
                    assert client.model(name).bundle_digest == found["bundle_digest"]
                    version = client.classify(picture(1), model=name).version
                    assert version is not None
                    assert (version.model, version.bundle_digest) == (name, found["bundle_digest"])
        finally:
            server.terminate()
