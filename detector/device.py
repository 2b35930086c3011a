"""Where members run: `auto`, `cpu`, `cuda`, `cuda:1` or `tensorrt`, and what ONNX Runtime is told then.

ONNX Runtime takes a missing GPU for a reason to use the CPU and a line in its log. A threshold
holds for the path it was measured on, so here a device that was asked for is there, or it is an
error; only `auto` may choose.
"""

import ctypes
import os
import re
from dataclasses import dataclass
from typing import Any, Final

import onnxruntime

from detector.document import Record
from detector.errors import DeviceError, SettingError
from detector.precision import Precision

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# What a device that is asked for by name needs.
_PROVIDERS: Final = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}


class ExecutionPath(Record):
    """How members are computed: what a score may depend on beside the weights.

    Attributes:
        provider: ONNX Runtime's name of it.
        dtype: Of the members' arithmetic.
        tf32: TensorFloat-32 allowed. It moves log diversity, and is off but on TensorRT: that allows it to float32
            unless the environment says NVIDIA_TF32_OVERRIDE=0.
    """

    provider: str
    dtype: str = "float32"
    tf32: bool = False

    def __str__(self) -> str:
        """For messages: `CPUExecutionProvider float32`."""
        return f"{self.provider} {self.dtype}{' tf32' if self.tf32 else ''}"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device to open sessions on.

    Attributes:
        provider: CPU, CUDA or TENSORRT.
        index: Which GPU.
        required: Asked for by name, so that falling back is an error.
    """

    provider: str
    index: int = 0
    required: bool = True

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Reads `auto`, `cpu`, `cuda`, `cuda:INDEX`, `tensorrt` or `tensorrt:INDEX`.

        Raises:
            SettingError: Another word.
            DeviceError: A GPU was asked for and there is no such one, or no ONNX Runtime for it.
        """
        match = re.fullmatch(r"(auto|cpu|cuda|tensorrt)(?::(\d+))?", text)
        if match is None or (match[2] and match[1] in ("auto", "cpu")):
            raise SettingError(
                f"device: expected auto, cpu, cuda or tensorrt, these two with :INDEX, :all or without, found '{text}'"
            )
        if match[1] == "cpu":
            return cls(provider=CPU)
        built = onnxruntime.get_available_providers()
        gpus = gpu_count()
        index = int(match[2] or 0)
        if match[1] == "auto":
            return cls(provider=CUDA if CUDA in built and gpus else CPU, required=False)
        provider = _PROVIDERS[match[1]]
        if provider not in built:
            name = provider.removesuffix("ExecutionProvider")
            raise DeviceError(f"device {text}: this onnxruntime has no {name}; install onnxruntime-gpu in its place")
        if index >= gpus:
            raise DeviceError(f"device {text}: expected a GPU of that index, found {gpus} GPUs")
        return cls(provider=provider, index=index)

    def __str__(self) -> str:
        """As it is asked for: `cuda:0`."""
        name = next(name for name, provider in _PROVIDERS.items() if provider == self.provider)
        return name if self.provider == CPU else f"{name}:{self.index}"

    def path(self, precision: Precision) -> ExecutionPath:
        """The execution path of members that compute in this precision here."""
        wide = self.provider == TENSORRT and precision is Precision.FLOAT32
        return ExecutionPath(
            provider=self.provider, dtype=precision.value, tf32=wide and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
        )

    def providers(self, *, cuda_graphs: bool = False) -> list[Any]:
        """ONNX Runtime's provider list for this device; TensorRT's own options are in `detector.tensorrt`."""
        if self.provider == CPU:
            return [CPU]
        options = {
            "device_id": str(self.index),
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",  # exhaustive takes seconds for each new batch size
            "arena_extend_strategy": "kSameAsRequested",  # else the arena doubles and never shrinks
            **({"enable_cuda_graph": "1"} if cuda_graphs else {}),
        }
        return [(CUDA, options), CPU]


def each_device(text: str) -> list[str]:
    """The single devices of `cuda:0,1` or `cuda:all`, and of `tensorrt` likewise; any other word by itself.

    Raises:
        SettingError: A GPU named twice.
    """
    match = re.fullmatch(r"(cuda|tensorrt):(all|\d+(?:,\d+)+)", text)
    if match is None:
        return [text]
    indices = list(range(max(1, gpu_count()))) if match[2] == "all" else [int(one) for one in match[2].split(",")]
    if len(set(indices)) < len(indices):
        raise SettingError(f"device: expected different GPUs, found '{text}'")
    return [f"{match[1]}:{index}" for index in indices]


def gpu_count() -> int:
    """NVIDIA GPUs that the driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def usable_cores() -> int:
    """Cores this process may use; ONNX Runtime's own count ignores affinity and container limits."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = open("/sys/fs/cgroup/cpu.max").read().split()  # noqa: PTH123, SIM115
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return cores
