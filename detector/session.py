"""One member as a session of ONNX Runtime, on a device that is really used."""

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector import tensorrt
from detector.binding import Bound
from detector.device import CPU, CUDA, TENSORRT, Device
from detector.errors import DeviceError, MemberError, one_line
from detector.float16 import in_float16
from detector.precision import Precision
from detector.tuning import Tuning

log = logging.getLogger(__name__)

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A member: images (n, C, H, W) to logits (n, L)."""

_ERRORS_ONLY: Final = 3
# Characters of an error of ONNX Runtime.
_MOST: Final = 300
_MISSING: Final = {
    CUDA: "its CUDA libraries; pip install 'ledgate[gpu]' brings them",
    TENSORRT: "TensorRT; libnvinfer, libnvinfer_plugin and libnvonnxparser have to be where the loader looks, as in "
    "LD_LIBRARY_PATH",
}


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """How members are opened on one device.

    Attributes:
        device: Where.
        precision: In what arithmetic.
        threads: CPU threads of each.
        tuning: Choices on a GPU.

    Raises:
        DeviceError: A precision or a choice that this device has not.
    """

    device: Device
    precision: Precision
    threads: int
    tuning: Tuning

    def __post_init__(self) -> None:
        if self.precision is Precision.BFLOAT16 and self.device.provider != TENSORRT:
            raise DeviceError(f"precision bfloat16: expected device tensorrt, which alone has it, found {self.device}")
        if self.tuning.cuda_graphs and self.device.provider != CUDA:
            raise DeviceError(f"cuda_graphs: expected device cuda, found {self.device}")
        if self.tuning.pinned_memory and self.device.provider == CPU:
            raise DeviceError(f"pinned_memory: expected device cuda or tensorrt, found {self.device}")

    def open(self, members: Sequence[bytes]) -> list[Run]:
        """Opens a session for each member.

        Raises:
            DeviceError: The device cannot be used, or not for a member.
            MemberError: ONNX Runtime refuses a member on the CPU.
        """
        if self.device.provider != CPU:
            load_cuda_libraries()
        return [self._run(number, content) for number, content in enumerate(members)]

    def _run(self, number: int, content: bytes) -> Run:
        """One member."""
        if self.precision is Precision.FLOAT16 and self.device.provider != TENSORRT:
            content = in_float16(content, number)
        session = self._session(number, content)
        if self.device.provider == TENSORRT:
            tensorrt.check_whole(session, number, self.device)
        if not self.tuning.cuda_graphs:
            return _plain(session)
        try:
            return Bound(session, self.device, graphs=True)
        except Exception as error:  # noqa: BLE001  ONNX Runtime's C++ errors have no common class
            raise DeviceError(
                f"cuda_graphs: expected member {number} recorded, found: {one_line(error)[:_MOST]}"
            ) from None

    def _session(self, number: int, content: bytes) -> Any:
        """One session, and no other provider than was asked for."""
        try:
            session = onnxruntime.InferenceSession(
                content, self._options(), providers=self._providers(content), enable_fallback=0
            )
        except Exception as error:  # noqa: BLE001  ONNX Runtime's C++ errors have no common class
            text = one_line(error)[:_MOST]
            if self.device.provider == CPU:
                found = f"expected a graph that ONNX Runtime can run, found: {text}"
                raise MemberError(str(number), found) from None
            if "install TensorRT libraries" in text:
                raise self._missing() from None
            raise DeviceError(f"device {self.device}: expected member {number} to open, found: {text}") from None
        if session.get_providers()[0] != self.device.provider:  # CUDA that is missing is only a line in its log
            raise self._missing()
        return session

    def _missing(self) -> DeviceError:
        """What lacks where a provider does not load."""
        return DeviceError(f"device {self.device}: ONNX Runtime could not load {_MISSING[self.device.provider]}")

    def _providers(self, content: bytes) -> list[Any]:
        """ONNX Runtime's provider list for one member."""
        if self.device.provider == TENSORRT:
            options = tensorrt.provider_options(content, self.device, self.precision, self.tuning)
            return [(TENSORRT, options), *self.device.providers()]
        return self.device.providers(cuda_graphs=self.tuning.cuda_graphs)

    def _options(self) -> Any:
        """What all sessions have in common."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that spin while idle burn a core between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self.device.provider == TENSORRT:
            options.add_session_config_entry(tensorrt.RECORD, "1")
        return options


def _plain(session: Any) -> Run:
    """What gives a session's only output for its only input, their names looked up once."""
    given, wanted = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda floats: session.run(wanted, {given: floats})[0]


def load_cuda_libraries() -> None:
    """Loads the CUDA libraries of the `gpu` extra, where it is installed.

    What ONNX Runtime prints on the way goes to the log: standard output is for answers.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls(directory="")
    for line in printed.getvalue().splitlines():
        log.info("%s", line)
