"""What needs a CUDA device: `make test-gpu`.

Last run: H200, 2026-11-26, ONNX Runtime 1.31.1. Those of precision, members at once, CUDA graphs, pinned memory and
TensorRT: never; see docs/gpu-pending.md.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.device import CUDA, TENSORRT, gpu_count
from detector.ensemble import Ensemble
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from detector.tuning import Tuning
from serving.client import Client
from tests.conftest import at_once, has_tensorrt, make_images, make_members

pytestmark = pytest.mark.gpu
needs_tensorrt = pytest.mark.skipif(not has_tensorrt(), reason="needs the libraries of TensorRT")
SIZES = [1, 2, 3, 5, 31, 32, 33, 100]


def test_cuda_is_used_and_agrees_with_the_cpu(bundle: Bundle) -> None:
    """With TF32 off: logits to 1e-4, and the score to 1e-3 of its size."""
    images = make_images(300)
    cuda, cpu = (Detector.open(bundle.path, device=device) for device in ("cuda", "cpu"))
    assert cuda.execution_path.provider == CUDA
    np.testing.assert_allclose(cuda.logits(images), cpu.logits(images), atol=1e-4)
    found, expected = cuda.classify(images), cpu.classify(images)
    assert found.log_diversity is not None
    assert expected.log_diversity is not None
    np.testing.assert_allclose(found.log_diversity, expected.log_diversity, rtol=1e-3, atol=1e-3)


def test_auto_takes_the_gpu(bundle: Bundle) -> None:
    assert Detector.open(bundle.path).execution_path.provider == CUDA


@pytest.mark.parametrize(("made_on", "served_on"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")])
def test_a_calibration_holds_where_its_probes_do(bundle: Bundle, made_on: str, served_on: str) -> None:
    calibrate(bundle.path, clean=ImageSet(images=make_images(400)), target=TargetFpr(0.2), device=made_on)
    assert Detector.open(bundle.path, device=served_on).classify(make_images(5)).adversarial is not None


@pytest.mark.parametrize("words", [(), ("--cuda-graphs",), ("--pinned-memory",)], ids=["plain", "graphs", "pinned"])
def test_the_server_runs_on_cuda(calibrated: Bundle, words: tuple[str, ...]) -> None:
    bundle = str(calibrated.path)
    command = [sys.executable, "-m", "ledgate", "serve", bundle, "--port", "0", "--device", "cuda", "--json", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        with Client(ready["address"]) as client:
            assert client.model().provider == CUDA
            assert len(client.classify(make_images(100))) == 100
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.parametrize("pinned", [False, True])
def test_callers_at_once_have_their_own_logits(pinned: bool) -> None:
    """Members run at once, from a thread each, and so do callers; of page-locked memory some batches are too large."""
    agree_at_once(Ensemble(make_members(), device="cuda", tuning=Tuning(pinned_memory=pinned, max_batch=32)))


def agree_at_once(ensemble: Ensemble) -> None:
    """Callers of several sizes at once get what the CPU gives."""
    cpu = Ensemble(make_members(), device="cpu")
    inputs = [make_images(count, seed=count) for count in SIZES]
    for images, answers in zip(inputs, at_once(ensemble.logits, inputs, 20), strict=True):
        expected = cpu.logits(images)
        for found in answers:
            np.testing.assert_allclose(found, expected, atol=1e-4)


def test_cuda_graphs_replay_what_is_asked_now() -> None:
    """From the first run of each size on, forwards and backwards, and for callers at once."""
    ensemble = Ensemble(make_members(), device="cuda", tuning=Tuning(cuda_graphs=True))
    cpu = Ensemble(make_members(), device="cpu")
    for seed, count in enumerate((*SIZES, *reversed(SIZES))):
        images = make_images(count, seed=seed)
        np.testing.assert_allclose(ensemble.logits(images), cpu.logits(images), atol=1e-4)
    agree_at_once(ensemble)


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cuda", "float16"),
        pytest.param("tensorrt", "float32", marks=needs_tensorrt),
        pytest.param("tensorrt", "float16", marks=needs_tensorrt),
        pytest.param("tensorrt", "bfloat16", marks=needs_tensorrt),
    ],
)
def test_a_choice_is_calibrated_for_and_holds(bundle: Bundle, device: str, precision: str) -> None:
    clean = ImageSet(images=make_images(400))
    calibrate(bundle.path, clean=clean, target=TargetFpr(0.2), device=device, precision=precision)
    detector = Detector.open(bundle.path, device=device, precision=precision)
    assert detector.execution_path.provider == {"cuda": CUDA, "tensorrt": TENSORRT}[device]
    assert detector.execution_path.dtype == precision
    assert detector.deviation is not None
    assert detector.deviation.flags == 0
    expected = Ensemble(bundle.members, device="cpu").logits(make_images(100))
    np.testing.assert_allclose(detector.logits(make_images(100)), expected, atol=0.1)


@pytest.mark.skipif(gpu_count() < 2, reason="needs two GPUs")
def test_several_gpus_answer_alike(calibrated: Bundle) -> None:
    images = make_images(300)
    several, cpu = Detector.open(calibrated.path, device="cuda:all"), Detector.open(calibrated.path, device="cpu")
    assert len(several.ensembles) == gpu_count()
    for run in (several.logits, *(ensemble.logits for ensemble in several.ensembles)):
        np.testing.assert_allclose(run(images), cpu.logits(images), atol=1e-4)


@needs_tensorrt
def test_kept_engines_are_each_members_own(tmp_path: Path) -> None:
    """Opened from the cache, members of one architecture answer as before, and each otherwise."""
    tuning = Tuning(engine_cache=tmp_path, max_batch=8)
    images = make_images(20)
    first = Ensemble(make_members(), device="tensorrt", tuning=tuning).logits(images)
    kept = sorted(path.name for path in tmp_path.glob("*.engine"))
    assert len(kept) == len(make_members())
    again = Ensemble(make_members(), device="tensorrt", tuning=tuning).logits(images)
    np.testing.assert_array_equal(again, first)
    assert sorted(path.name for path in tmp_path.glob("*.engine")) == kept
    np.testing.assert_allclose(again, Ensemble(make_members(), device="cpu").logits(images), atol=1e-2)
