"""The members on ONNX Runtime: images in, logits (N, K, L) out.

The same code runs under calibration, embedded use and the server.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.device import CUDA, Device, ExecutionPath, usable_cores
from detector.errors import DeviceError, MemberError
from detector.imageset import Images, as_floats

log = logging.getLogger(__name__)

_ERRORS_ONLY = 3


class Ensemble:
    """K members with a session each.

    Args:
        members: Serialized ONNX models that `detector.member` has passed.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.
        threads: CPU threads of a session; by default the cores this process may use.

    Raises:
        InputError: A device of another name.
        DeviceError: The device is not there, or ONNX Runtime would run elsewhere.
        MemberError: ONNX Runtime refuses a member.
    """

    def __init__(self, members: Sequence[bytes], *, device: str = "auto", threads: int | None = None) -> None:
        chosen = Device.parse(device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that spin while idle burn a core between requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if chosen.provider == CUDA:
            _load_cuda_libraries()
        self._sessions = [_session(k, content, options, chosen) for k, content in enumerate(members)]
        provider = self._sessions[0].get_providers()[0]
        if chosen.provider == CUDA and provider != CUDA:
            message = "ONNX Runtime could not load its CUDA libraries; pip install 'ledgate[gpu]' brings them"
            if chosen.required:
                raise DeviceError(f"device {device}: {message}")
            log.warning("a GPU is there, but %s; running on the CPU", message)
        self.execution_path = ExecutionPath(provider=provider)
        self._inputs = [session.get_inputs()[0].name for session in self._sessions]

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs every member once on all images.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1], already checked.

        Returns:
            (N, K, L) float32, as the members answered: it may hold NaN.
        """
        floats = np.ascontiguousarray(as_floats(images))
        answers = [
            session.run(None, {name: floats})[0] for session, name in zip(self._sessions, self._inputs, strict=True)
        ]
        return np.stack(answers, axis=1)


def _load_cuda_libraries() -> None:
    """Loads the CUDA libraries of the `gpu` extra, where it is installed.

    What ONNX Runtime prints on the way goes to the log: standard output is for answers.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls(directory="")
    for line in printed.getvalue().splitlines():
        log.info("%s", line)


def _session(number: int, content: bytes, options: Any, device: Device) -> Any:
    """One session. Falling back to the CPU is seen afterwards, from its providers."""
    try:
        session = onnxruntime.InferenceSession(content, options, providers=device.providers())
    except Exception as error:  # noqa: BLE001  ONNX Runtime's C++ errors have no common class
        text = " ".join(str(error).split())[:300]
        raise MemberError(str(number), f"expected a graph that ONNX Runtime can run, found: {text}") from None
    session.disable_fallback()
    return session
