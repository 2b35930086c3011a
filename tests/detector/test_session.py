"""Sessions on a GPU, as far as a machine without one shows: what is tried, what is refused, and who runs what."""

import threading
from typing import Any

import numpy as np
import onnxruntime
import pytest

from detector.device import CPU, CUDA, TENSORRT, Device
from detector.ensemble import Ensemble
from detector.errors import DeviceError, MemberError
from detector.precision import Precision
from detector.session import Sessions
from detector.tuning import Tuning
from tests.conftest import has_tensorrt, make_images, make_members

PATIENCE_S = 30.0


@pytest.fixture
def claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that claims to have a GPU, and an ONNX Runtime for it."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr("detector.device.gpu_count", lambda: 1)


@pytest.fixture
def seen(claimed: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Members are opened on the CPU, whatever was asked for; returns the thread and the images of each run."""
    runs: list[tuple[int, int]] = []
    opened = Sessions.open

    def noting(self: Sessions, members: Any) -> Any:
        def noted(run: Any) -> Any:
            def call(floats: Any) -> Any:
                runs.append((threading.get_ident(), len(floats)))
                return run(floats)

            return call

        here = Sessions(device=Device(provider=CPU), precision=Precision.FLOAT32, threads=1, tuning=Tuning())
        return [noted(run) for run in opened(here, members)]

    monkeypatch.setattr(Sessions, "open", noting)
    return runs


def test_on_cuda_each_member_takes_all_images(seen: list[tuple[int, int]]) -> None:
    members, images = make_members(), make_images(100)
    found = Ensemble(members, device="cuda", threads=1).logits(images)
    assert [count for _, count in seen] == [100] * len(members)
    np.testing.assert_array_equal(found, Ensemble(members, device="cpu", threads=1).logits(images))


def test_on_cuda_the_members_run_at_once_from_one_image_on(claimed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member waits for the others: in a row the barrier would break."""
    barrier = threading.Barrier(3)

    def waiting(floats: Any) -> Any:
        barrier.wait(PATIENCE_S)
        return np.zeros((len(floats), 10), np.float32)

    monkeypatch.setattr(Sessions, "open", lambda self, members: [waiting] * len(members))
    ensemble = Ensemble(make_members(3), device="cuda", threads=1)
    for _ in range(2):
        assert ensemble.logits(make_images(1)).shape == (1, 3, 10)


@pytest.mark.parametrize("count", [1, 4, 5, 10])
def test_on_tensorrt_no_run_is_larger_than_the_engine(seen: list[tuple[int, int]], count: int) -> None:
    members, images = make_members(), make_images(count)
    ensemble = Ensemble(members, device="tensorrt", tuning=Tuning(max_batch=4))
    expected = Ensemble(members, device="cpu", threads=1).logits(images)
    seen.clear()
    np.testing.assert_array_equal(ensemble.logits(images), expected)
    assert max(size for _, size in seen) <= 4
    assert sum(size for _, size in seen) == count * len(members)


def test_a_single_member_on_tensorrt_is_cut_too(seen: list[tuple[int, int]]) -> None:
    Ensemble(make_members(1), device="tensorrt", tuning=Tuning(max_batch=4)).logits(make_images(9))
    assert [size for _, size in seen] == [4, 4, 1]


@pytest.mark.skipif(has_tensorrt(), reason="TensorRT is there")
def test_without_the_libraries_of_tensorrt_nothing_runs_elsewhere(
    claimed: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime itself would print so on standard output and go on with the CPU."""
    with pytest.raises(DeviceError, match=r"^device tensorrt:0: ONNX Runtime could not load TensorRT; libnvinfer, "):
        Ensemble(make_members(), device="tensorrt")
    assert capfd.readouterr().out == ""


def failing(monkeypatch: pytest.MonkeyPatch, text: str) -> list[Any]:
    """Sessions fail everywhere but on the CPU; returns the first provider of each try."""
    session = onnxruntime.InferenceSession
    tried: list[Any] = []

    def opened(content: bytes, options: Any, providers: list[Any], **rest: Any) -> Any:
        tried.append(providers[0] if isinstance(providers[0], str) else providers[0][0])
        if providers != [CPU]:
            raise RuntimeError(text)
        return session(content, options, providers=providers, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda directory: None)
    return tried


def test_a_gpu_that_fails_is_an_error_where_it_was_asked_for(claimed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = failing(monkeypatch, "CUDA failure 2:\n out of memory")
    with pytest.raises(DeviceError, match=r"^device cuda:0: expected member 0 to open, found: CUDA failure 2: out of"):
        Ensemble(make_members(), device="cuda")
    assert tried == [CUDA]


def test_and_else_the_cpu_takes_its_place(
    claimed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = failing(monkeypatch, "CUDA failure 2: out of memory")
    ensemble = Ensemble(make_members(), device="auto", threads=2)
    assert tried == [CUDA, CPU, CPU, CPU]
    assert ensemble.execution_path.provider == CPU
    assert "a GPU is there, but device cuda:0: expected member 0 to open" in caplog.text
    with pytest.raises(MemberError, match=r"^member 1: expected a graph that ONNX Runtime can run"):
        Ensemble([make_members(1)[0], b"no model"], device="auto")


def test_bfloat16_is_tensorrts_alone() -> None:
    expected = r"^precision bfloat16: expected device tensorrt, which alone has it, found cpu$"
    with pytest.raises(DeviceError, match=expected):
        Ensemble(make_members(), device="cpu", precision="bfloat16")
