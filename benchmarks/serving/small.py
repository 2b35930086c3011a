"""A network too small to matter: the digits members that the tests attack, as a calibrated bundle."""

from pathlib import Path

from detector.bundle import write_bundle
from detector.calibrate import calibrate
from detector.imageset import ImageSet
from detector.targets import TargetFpr


def digits_bundle(folder: Path) -> Path:
    """Writes the bundle into a new folder; takes torch, and some seconds."""
    from tests.training.attacks.reference import SHAPE, reference_ensemble
    from training.datasets import load
    from training.exporter import to_onnx

    members = [to_onnx(member, SHAPE) for member in reference_ensemble().members]
    write_bundle(folder, members=members, labels=list(map(str, range(10))), provenance={"command": "benchmark"})
    calibrate(folder, clean=ImageSet(images=load("digits").images[:800]), target=TargetFpr(0.2), device="cpu")
    return folder
