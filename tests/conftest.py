"""Small real ONNX members and bundles, made in milliseconds and without torch."""

import ctypes
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from detector.bundle import Bundle, write_bundle
from detector.calibrate import calibrate
from detector.device import CPU, CUDA, TENSORRT, Device
from detector.imageset import ImageSet
from detector.precision import Precision
from detector.session import Sessions
from detector.targets import TargetFpr
from detector.tuning import Tuning

SHAPE = (1, 8, 8)
CLASSES = 10
MEMBERS = 3

Nodes = list[Any]


def linear_weights(seed: int, *, shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> NDArray[np.float32]:
    """Weights of a linear member: (C * H * W, L)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(int(np.prod(shape)), classes)) * 2 / np.sqrt(np.prod(shape))
    return np.asarray(weights, dtype=np.float32)


def make_model(
    seed: int = 0,
    *,
    shape: tuple[Any, ...] = SHAPE,
    classes: int = CLASSES,
    batch: Any = "batch",
    input_name: str = "images",
    output_name: str = "logits",
    tail: Nodes | None = None,
    weights: NDArray[np.float32] | None = None,
    opset: int = 17,
    dtype: int = onnx.TensorProto.FLOAT,
) -> Any:
    """A linear classifier as an ONNX model; `tail` nodes go from 'scores' to the output."""
    matrix = linear_weights(seed, shape=shape, classes=classes) if weights is None else weights
    first = "scores" if tail else output_name
    nodes = [
        helper.make_node("Flatten", [input_name], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], [first]),
        *(tail or []),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(input_name, dtype, [batch, *shape])],
        [helper.make_tensor_value_info(output_name, onnx.TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(matrix, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def make_members(count: int = MEMBERS, **options: Any) -> list[bytes]:
    """Serialized members of different weights."""
    return [make_model(seed, **options).SerializeToString() for seed in range(count)]


def make_images(count: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Uniform noise: (N, C, H, W) float32."""
    return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def at_once(call: Callable[[Any], Any], inputs: Sequence[Any], times: int) -> Iterator[list[Any]]:
    """So many answers to each input in turn, from callers who all begin at the same moment, one for each input."""
    barrier = threading.Barrier(len(inputs))

    def caller(given: Any) -> list[Any]:
        barrier.wait(60)
        return [call(given) for _ in range(times)]

    with ThreadPoolExecutor(len(inputs)) as callers:
        yield from callers.map(caller, inputs)


@pytest.fixture
def members() -> list[bytes]:
    """Three linear members."""
    return make_members()


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles `plain` and `calibrated`, made once; tests get copies."""
    folder = tmp_path_factory.mktemp("templates")
    labels = [f"class {index}" for index in range(CLASSES)]
    for name in ("plain", "calibrated"):
        write_bundle(folder / name, members=make_members(), labels=labels, provenance={"command": "test"})
    clean = ImageSet(images=make_images(400))
    calibrate(folder / "calibrated", clean=clean, target=TargetFpr(0.2), device="cpu")
    return folder


@pytest.fixture
def bundle(tmp_path: Path, templates: Path) -> Bundle:
    """A bundle of three linear members, not calibrated."""
    return Bundle.open(shutil.copytree(templates / "plain", tmp_path / "linear"))


@pytest.fixture
def calibrated(tmp_path: Path, templates: Path) -> Bundle:
    """The same, with a threshold that flags about every tenth image."""
    return Bundle.open(shutil.copytree(templates / "calibrated", tmp_path / "linear"))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Two GPUs that are really the CPU, each of which adds what is returned for its index to all logits."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr("detector.device.gpu_count", lambda: 2)
    added = {0: 0.0, 1: 0.0}
    opened = Sessions.open

    def moved(self: Sessions, members: Any) -> Any:
        if self.device.provider == CPU:
            return opened(self, members)
        here = Sessions(device=Device(provider=CPU), precision=Precision.FLOAT32, threads=1, tuning=Tuning())
        index = self.device.index
        return [lambda floats, run=run: run(floats) + np.float32(added[index]) for run in opened(here, members)]

    monkeypatch.setattr(Sessions, "open", moved)
    return added


def has_tensorrt() -> bool:
    """Whether the loader finds the library of TensorRT that ONNX Runtime is built against."""
    try:
        ctypes.CDLL("libnvinfer.so.10")
    except OSError:
        return False
    return True


MakeModel = Callable[..., Any]
