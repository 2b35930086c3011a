"""A run of two epochs, its bundle, and labelled images of the tiny bundle, for the tests of `ledgate attack`."""

from pathlib import Path

import pytest

import training
from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from tests.conftest import make_images


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    config = training.TrainConfig(members=3, epochs=2, seed=3)
    return training.train(config, tmp_path_factory.mktemp("ledgate") / "run", progress=False)


@pytest.fixture(scope="session")
def exported(run: training.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a bundle, calibrated."""
    path = tmp_path_factory.mktemp("ledgate") / "bundle"
    training.export(run, path)
    clean = training.take(training.load("digits"), "calibration")
    calibrate(path, clean=clean, target=TargetFpr(0.1), device="cpu")
    return path


@pytest.fixture
def labelled(bundle: Bundle, tmp_path: Path) -> Path:
    """Images that the bundle answers, labelled with its answers."""
    images = make_images(6)
    labels = Detector.open(bundle.path, device="cpu").classify(images).labels
    ImageSet(images=images, labels=labels).save(tmp_path / "labelled.npz")
    return tmp_path / "labelled.npz"
