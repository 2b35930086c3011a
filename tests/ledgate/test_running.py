"""`--precision` from end to end: refused while the calibration is another's, calibrated for it, then served."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.detector import Detector
from detector.imageset import ImageSet
from ledgate.cli import main
from serving.client import Client
from tests.conftest import make_images

PATIENCE_S = 60.0
HALF = ("--device", "cpu", "--precision", "float16")
WHOLE = ("--device", "cpu")

Answer = Callable[..., Any]
Refusal = Callable[..., str]


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "clean.npz"
    ImageSet(images=make_images(400)).save(path)
    return path


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """The JSON of a command that goes well."""

    def run(*words: object) -> Any:
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one line of a command that fails."""

    def run(*words: object) -> str:
        assert main([*map(str, words)]) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        return str(line)

    return run


@contextmanager
def served(bundle: Path, *words: str) -> Iterator[dict[str, Any]]:
    """A server as a process; yields the object that says that it is ready."""
    command = [sys.executable, "-m", "ledgate", "serve", str(bundle), "--port", "0", "--threads", "1", "--json", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()
        if not ready:
            raise AssertionError(server.communicate()[1])
        yield json.loads(ready)
        server.send_signal(signal.SIGTERM)
        _, error = server.communicate(timeout=PATIENCE_S)
        assert server.returncode == 0, error


def recalibrate(answer: Answer, bundle: Bundle, clean: Path) -> Any:
    return answer("calibrate", bundle.path, "--clean", clean, "--target-fpr", 0.2, *HALF)


@pytest.mark.parametrize("command", ["serve", "classify", "check"])
def test_a_calibration_in_another_precision_is_refused(
    calibrated: Bundle, clean: Path, refusal: Refusal, command: str
) -> None:
    words = {"serve": "--port=0", "classify": str(clean), "check": f"--clean={clean}"}
    line = refusal(command, calibrated.path, words[command], *HALF)
    head = "calibration: made on CPUExecutionProvider float32, does not hold on CPUExecutionProvider float16: "
    assert head in line
    assert "score moved by up to 0.0" in line
    assert "ledgate calibrate BUNDLE --device ... --precision float16 --clean" in line


def test_what_is_calibrated_for_it_is_served(calibrated: Bundle, clean: Path, answer: Answer) -> None:
    found = recalibrate(answer, calibrated, clean)
    assert found["execution_path"] == {"provider": "CPUExecutionProvider", "dtype": "float16", "tf32": False}
    images = make_images(20, seed=1)
    expected = Detector.open(calibrated.path, device="cpu", precision="float16").classify(images)
    with served(calibrated.path, *HALF) as ready, Client(ready["address"], timeout_s=PATIENCE_S) as client:
        assert (ready["provider"], ready["dtype"]) == ("CPUExecutionProvider", "float16")
        assert client.model().dtype == "float16"
        verdicts = client.classify(images)
    np.testing.assert_array_equal(verdicts.score, expected.score)
    np.testing.assert_array_equal(verdicts.adversarial, expected.adversarial)


def test_and_then_the_other_precision_is_refused(
    calibrated: Bundle, clean: Path, answer: Answer, refusal: Refusal
) -> None:
    recalibrate(answer, calibrated, clean)
    assert "made on CPUExecutionProvider float16, does not hold on CPUExecutionProvider float32: " in refusal(
        "classify", calibrated.path, clean, *WHOLE
    )
    assert answer("check", calibrated.path, "--clean", clean, *HALF)["finding"] != "broken"
    assert len(answer("classify", calibrated.path, clean, *HALF)) == 400


def test_inspect_tells_how_far_the_probes_move(
    calibrated: Bundle, clean: Path, answer: Answer, refusal: Refusal, capsys: pytest.CaptureFixture[str]
) -> None:
    path = {"provider": "CPUExecutionProvider", "dtype": "float32", "tf32": False}
    still = {"score": 0.0, "logits": 0.0, "flags": 0, "probes": 32}
    assert answer("inspect", calibrated.path, "--probes", *WHOLE)["probes"] == {"execution_path": path, **still}
    assert "does not hold on CPUExecutionProvider float16" in refusal("inspect", calibrated.path, "--probes", *HALF)
    assert "probes" not in answer("inspect", calibrated.path, *HALF)
    assert main(["inspect", str(calibrated.path), "--probes", *WHOLE]) == 0
    line = "holds on     CPUExecutionProvider float32: score moved by up to 0, logits by up to 0, 0 of 32 flags turned"
    assert line in capsys.readouterr().out.splitlines()


def test_probes_of_no_calibration(bundle: Bundle, refusal: Refusal) -> None:
    line = refusal("inspect", bundle.path, "--probes", *WHOLE)
    assert line.endswith(": expected a calibration, whose probes are run, found none")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--device=cpu", "--precision=bfloat16"), "precision bfloat16: expected device tensorrt, which alone has it"),
        (("--device=cpu", "--cuda-graphs"), "cuda_graphs: expected device cuda, found cpu"),
        (("--device=cpu", "--pinned-memory"), "pinned_memory: expected device cuda or tensorrt, found cpu"),
        (("--device=tpu",), "device: expected auto, cpu, cuda or tensorrt, these two with :INDEX, :all or without"),
    ],
)
def test_choices_that_are_not_here_are_one_line(
    calibrated: Bundle, refusal: Refusal, words: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal("serve", calibrated.path, "--port=0", *words)
