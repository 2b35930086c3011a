"""A run of a few epochs, trained once for all tests that only read it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from detector.imageset import ImageSet
from training import Run, TrainConfig, load, take, train

QUICK = TrainConfig(members=2, epochs=4, seed=3)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on several threads, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(QUICK, tmp_path_factory.mktemp("training") / "run", progress=False)


@pytest.fixture(scope="session")
def validation() -> ImageSet:
    return take(load("digits"), "validation")


@pytest.fixture
def quick() -> TrainConfig:
    return QUICK


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Path:
    """The same run in a folder of its own, to be damaged."""
    folder = tmp_path / "copied"
    folder.mkdir()
    for file in run.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
