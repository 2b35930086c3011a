"""Where members run: `auto`, `cpu`, `cuda` or `cuda:1`, and what ONNX Runtime is told then.

ONNX Runtime takes a missing GPU for a reason to use the CPU and a line in its log. A threshold
holds for the path it was measured on, so here a device that was asked for is there, or it is an
error; only `auto` may choose.
"""

import ctypes
import os
import re
from dataclasses import dataclass
from typing import Any

import onnxruntime

from detector.document import Record
from detector.errors import DeviceError, InputError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class ExecutionPath(Record):
    """How members are computed: what a score may depend on beside the weights.

    Attributes:
        provider: ONNX Runtime's name of it.
        dtype: Of the members' arithmetic.
        tf32: TensorFloat-32 allowed; always off here, since it moves log diversity.
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
        provider: CPU or CUDA.
        index: Which GPU.
        required: Asked for by name, so that falling back is an error.
    """

    provider: str
    index: int = 0
    required: bool = True

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Reads `auto`, `cpu`, `cuda` or `cuda:INDEX`.

        Raises:
            InputError: Another word.
            DeviceError: CUDA was asked for and there is no such GPU, or no ONNX Runtime for it.
        """
        match = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?", text)
        if match is None or (match[2] and match[1] != "cuda"):
            raise InputError(f"device: expected auto, cpu, cuda or cuda:INDEX, found '{text}'")
        if match[1] == "cpu":
            return cls(provider=CPU)
        built = CUDA in onnxruntime.get_available_providers()
        gpus = gpu_count()
        index = int(match[2] or 0)
        if match[1] == "auto":
            return cls(provider=CUDA if built and gpus else CPU, required=False)
        if not built:
            raise DeviceError(f"device {text}: this onnxruntime has no CUDA; install onnxruntime-gpu in its place")
        if index >= gpus:
            raise DeviceError(f"device {text}: expected a GPU of that index, found {gpus} GPUs")
        return cls(provider=CUDA, index=index)

    def providers(self) -> list[Any]:
        """ONNX Runtime's provider list for this device."""
        if self.provider == CPU:
            return [CPU]
        options = {
            "device_id": str(self.index),
            "use_tf32": "0",
            "cudnn_conv_algo_search": "HEURISTIC",  # exhaustive takes seconds for each new batch size
            "arena_extend_strategy": "kSameAsRequested",  # else the arena doubles and never shrinks
        }
        return [(CUDA, options), CPU]


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
