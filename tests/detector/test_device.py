"""Devices by name, and what ONNX Runtime is told; nothing falls back in silence."""

import os
from typing import Any

import onnxruntime
import pytest

from detector.device import CPU, CUDA, TENSORRT, Device, ExecutionPath, each_device, gpu_count, usable_cores
from detector.ensemble import Ensemble
from detector.errors import DeviceError, InputError, MemberError
from detector.precision import Precision
from tests.conftest import make_images, make_members


@pytest.mark.parametrize(
    "text", ["", "gpu", "CPU", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x", "cuda:0 ", "tensorrt:"]
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(
        InputError,
        match=f"^device: expected auto, cpu, cuda or tensorrt, these two with :INDEX, :all or without, found '{text}'$",
    ):
        Device.parse(text)


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        ("cuda:0,2", 1, ["cuda:0", "cuda:2"]),
        ("tensorrt:1,0", 1, ["tensorrt:1", "tensorrt:0"]),
        ("cuda:all", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:all", 0, ["cuda:0"]),  # which is then not there
        ("cuda:1", 2, ["cuda:1"]),
        ("auto", 2, ["auto"]),
        ("cuda:0,", 2, ["cuda:0,"]),  # and these are then refused
        ("cpu:all", 2, ["cpu:all"]),
    ],
)
def test_several_devices(monkeypatch: pytest.MonkeyPatch, text: str, gpus: int, expected: list[str]) -> None:
    machine(monkeypatch, built=True, gpus=gpus)
    assert each_device(text) == expected


def test_a_gpu_named_twice() -> None:
    with pytest.raises(InputError, match=r"^device: expected different GPUs, found 'cuda:0,1,0'$"):
        each_device("cuda:0,1,0")


def machine(monkeypatch: pytest.MonkeyPatch, *, built: bool, gpus: int) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU] if built else [CPU])
    monkeypatch.setattr("detector.device.gpu_count", lambda: gpus)


@pytest.mark.parametrize(
    ("text", "built", "gpus", "expected"),
    [
        ("cpu", True, 2, Device(provider=CPU)),
        ("auto", True, 2, Device(provider=CUDA, required=False)),
        ("auto", True, 0, Device(provider=CPU, required=False)),
        ("auto", False, 2, Device(provider=CPU, required=False)),
        ("cuda", True, 1, Device(provider=CUDA, index=0)),
        ("cuda:1", True, 2, Device(provider=CUDA, index=1)),
        ("tensorrt", True, 1, Device(provider=TENSORRT, index=0)),
        ("tensorrt:1", True, 2, Device(provider=TENSORRT, index=1)),
    ],
)
def test_what_a_name_means(monkeypatch: pytest.MonkeyPatch, text: str, built: bool, gpus: int, expected: Any) -> None:
    machine(monkeypatch, built=built, gpus=gpus)
    assert Device.parse(text) == expected


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, built=True, gpus=1)
    with pytest.raises(DeviceError, match=r"^device cuda:1: expected a GPU of that index, found 1 GPUs"):
        Device.parse("cuda:1")
    machine(monkeypatch, built=False, gpus=1)
    with pytest.raises(DeviceError, match=r"^device cuda: this onnxruntime has no CUDA; install onnxruntime-gpu"):
        Device.parse("cuda")
    with pytest.raises(DeviceError, match=r"^device tensorrt: this onnxruntime has no Tensorrt; install onnxruntime-"):
        Device.parse("tensorrt")


def test_tf32_is_off_on_a_gpu() -> None:
    provider, fallback = Device(provider=CUDA, index=3).providers()
    assert provider[0] == CUDA
    assert (provider[1]["use_tf32"], provider[1]["device_id"]) == ("0", "3")
    assert fallback == CPU
    assert Device(provider=CPU).providers() == [CPU]


def test_graphs_are_recorded_only_where_asked() -> None:
    device = Device(provider=CUDA)
    assert "enable_cuda_graph" not in device.providers()[0][1]
    assert device.providers(cuda_graphs=True)[0][1]["enable_cuda_graph"] == "1"


@pytest.mark.parametrize(
    ("device", "precision", "override", "expected"),
    [
        (Device(provider=CPU), Precision.FLOAT32, None, "CPUExecutionProvider float32"),
        (Device(provider=CUDA), Precision.FLOAT16, None, "CUDAExecutionProvider float16"),
        (Device(provider=TENSORRT), Precision.FLOAT32, None, "TensorrtExecutionProvider float32 tf32"),
        (Device(provider=TENSORRT), Precision.FLOAT32, "0", "TensorrtExecutionProvider float32"),
        (Device(provider=TENSORRT), Precision.BFLOAT16, None, "TensorrtExecutionProvider bfloat16"),
    ],
)
def test_the_path_of_a_device(
    monkeypatch: pytest.MonkeyPatch, device: Device, precision: Precision, override: str | None, expected: str
) -> None:
    """TensorRT allows TF32 to float32 unless the environment forbids it."""
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    if override is not None:
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", override)
    assert str(device.path(precision)) == expected


@pytest.mark.parametrize(("text", "expected"), [("cpu", "cpu"), ("cuda", "cuda:0"), ("tensorrt:1", "tensorrt:1")])
def test_a_device_as_text(monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    machine(monkeypatch, built=True, gpus=2)
    assert str(Device.parse(text)) == expected


def test_paths_as_text() -> None:
    assert str(ExecutionPath(provider=CPU)) == "CPUExecutionProvider float32"
    assert str(ExecutionPath(provider=CUDA, tf32=True)) == "CUDAExecutionProvider float32 tf32"


def test_counts() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert gpu_count() >= 0


def test_a_member_that_onnx_runtime_refuses() -> None:
    with pytest.raises(MemberError, match=r"^member 1: expected a graph that ONNX Runtime can run, found: "):
        Ensemble([make_members(1)[0], b"no model"], device="cpu", threads=1)


def test_bytes_and_strides_are_taken() -> None:
    """Images that are a view, as of every second image, give what their copy gives."""
    ensemble = Ensemble(make_members(), device="cpu", threads=1)
    images = make_images(8)
    assert (ensemble.logits(images[::2]) == ensemble.logits(images[::2].copy())).all()
    assert ensemble.logits(images).dtype == "float32"
