"""A run of a few epochs, trained once for all tests that only read it; and networks of a user's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from detector.imageset import ImageSet
from training import Run, TrainConfig, load, take, train

QUICK = TrainConfig(members=3, epochs=4, seed=3)

OWN_NETWORKS = """
import torch
from torch import nn


class Plain(nn.Module):
    # Nothing in it looks at more than one image.
    def __init__(self, image_shape, classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(image_shape[0], 8, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.features(images).amax(dim=(2, 3)))


class Dropping(Plain):
    def __init__(self, image_shape, classes):
        super().__init__(image_shape, classes)
        self.features.append(nn.BatchNorm2d(8))
        self.features.append(nn.Dropout(0.5))


class Failing(Plain):
    # Well through the first 20 steps, which is more than an epoch of `digits`.
    steps = 0

    def forward(self, images):
        self.steps += self.training
        logits = super().forward(images)
        return self.fail(logits) if self.steps > 20 else logits


class Diverging(Failing):
    def fail(self, logits):
        return logits * torch.nan


class Spoiling(Failing):
    def fail(self, logits):
        return logits * 0


class Greedy(Failing):
    def fail(self, logits):
        return logits + torch.empty(10**16).sum()


class Flat(nn.Module):
    def __init__(self, image_shape, classes):
        super().__init__()
        self.head = nn.LazyLinear(classes)

    def forward(self, images):
        return self.head(images.flatten(1))


class TwoHeads(Plain):
    def forward(self, images):
        logits = super().forward(images)
        return logits, logits


def too_few_classes(image_shape, classes):
    return Plain(image_shape, classes - 1)


def no_network(image_shape, classes):
    return "network"


def without_arguments():
    return Plain((1, 8, 8), 10)
"""


@pytest.fixture(scope="session", autouse=True)
def own_networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a module `own_networks`, which can be imported."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_networks.py").write_text(OWN_NETWORKS)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


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
