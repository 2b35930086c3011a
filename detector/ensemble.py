"""The members on ONNX Runtime: images in, logits (N, K, L) out.

The same code runs under calibration, embedded use and the server.
"""

import contextlib
import io
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.device import CPU, CUDA, Device, ExecutionPath, usable_cores
from detector.errors import DeviceError, MemberError
from detector.imageset import Images, as_floats
from detector.lanes import Lanes

log = logging.getLogger(__name__)

_ERRORS_ONLY: Final = 3
# A run that takes less is not divided: to wake another thread, and to wait for it, takes a tenth of that.
_WORTH_S: Final = 0.5e-3
# Fewest images that a member's run is divided into.
_LEAST: Final = 4


class Ensemble:
    """K members with a session each. Several threads may run them at once.

    Args:
        members: Serialized ONNX models that `detector.member` has passed.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.
        threads: CPU threads of all sessions together; by default the cores this process may use.

    Attributes:
        execution_path: Where and how the members run.

    Raises:
        InputError: A device of another name.
        DeviceError: The device is not there, or ONNX Runtime would run elsewhere.
        MemberError: ONNX Runtime refuses a member.
    """

    def __init__(self, members: Sequence[bytes], *, device: str = "auto", threads: int | None = None) -> None:
        chosen = Device.parse(device)
        threads = threads or usable_cores()
        # A lane for each member as far as there are threads; what threads are left over are the sessions' own.
        lanes = min(threads, len(members)) if chosen.provider == CPU else 1
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads // lanes
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
        self._runs = [_run_of(session) for session in self._sessions]
        self._lanes = Lanes(lanes)
        # Of all runs, the shortest time of a member for an image: what it takes where nothing is in its way.
        self._image_s = math.inf

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs every member once on all images.

        The images are divided among the lanes that are free. An image's logits are the same, to the bit, with
        whatever other images it runs, and on whatever lane.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1], already checked.

        Returns:
            (N, K, L) float32, as the members answered: it may hold NaN.
        """
        floats = np.ascontiguousarray(as_floats(images))
        worth = len(floats) * len(self._runs) * self._image_s >= _WORTH_S
        with self._lanes.taken(self._lanes.count if worth else 1) as lanes:
            if lanes == 1:
                return np.stack([self._timed(run, floats) for run in self._runs], axis=1)
            return self._divided(floats, lanes)

    def _divided(self, floats: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
        """The same, by members and by parts of the images."""
        parts = np.array_split(floats, max(1, min(lanes, len(floats) // _LEAST)))
        answers = self._lanes.each([partial(self._timed, run, part) for part in parts for run in self._runs], lanes)
        members = len(self._runs)
        stacked = [np.stack(answers[start : start + members], axis=1) for start in range(0, len(answers), members)]
        return np.concatenate(stacked)

    def _timed(self, run: Callable[[NDArray[np.float32]], Any], floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """One member's logits, (n, L)."""
        begun_s = time.perf_counter()
        answer: NDArray[np.float32] = run(floats)
        self._image_s = min(self._image_s, (time.perf_counter() - begun_s) / len(floats))
        return answer


def _run_of(session: Any) -> Callable[[NDArray[np.float32]], Any]:
    """What gives a session's only output for its only input, their names looked up once."""
    given, wanted = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda floats: session.run(wanted, {given: floats})[0]


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
