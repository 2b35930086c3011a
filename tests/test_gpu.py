"""What needs a CUDA device: `make test-gpu`. Last run: never; see docs/gpu-pending.md."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.device import CUDA
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from serving.client import Client
from tests.conftest import make_images

pytestmark = pytest.mark.gpu


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


def test_the_server_runs_on_cuda(calibrated: Bundle) -> None:
    command = [
        sys.executable,
        "-m",
        "ledgate",
        "serve",
        str(calibrated.path),
        "--port",
        "0",
        "--device",
        "cuda",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = json.loads(server.stdout.readline())
        with Client(ready["address"]) as client:
            assert client.model().provider == CUDA
            assert len(client.classify(make_images(100))) == 100
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
