"""The members on ONNX Runtime: images in, logits (N, K, L) out.

The same code runs under calibration, embedded use and the server.
"""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.device import CPU, TENSORRT, Device, usable_cores
from detector.errors import DeviceError
from detector.imageset import Images, as_floats
from detector.lanes import Lanes
from detector.pinned import Pinned
from detector.precision import Precision
from detector.session import Run, Sessions
from detector.tuning import Tuning

log = logging.getLogger(__name__)

# A run that takes less is not divided: to wake another thread, and to wait for it, takes a tenth of that.
_WORTH_S: Final = 0.5e-3
# Fewest images that a member's run is divided into.
_LEAST: Final = 4


class Ensemble:
    """K members with a session each. Several threads may run them at once.

    Args:
        members: Serialized ONNX models that `detector.member` has passed.
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.
        precision: What they compute in, one of `detector.precision.Precision`.
        threads: CPU threads of all sessions together; by default the cores this process may use.
        tuning: Choices on a GPU.

    Attributes:
        execution_path: Where and how the members run.

    Raises:
        InputError: A device or a precision of another name.
        DeviceError: The device is not there, ONNX Runtime would run elsewhere, or it has not that precision.
        MemberError: ONNX Runtime refuses a member.
    """

    def __init__(
        self,
        members: Sequence[bytes],
        *,
        device: str = "auto",
        precision: str = Precision.FLOAT32,
        threads: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        chosen, arithmetic, tuning = Device.parse(device), Precision.parse(precision), tuning or Tuning()
        threads = threads or usable_cores()
        try:
            self._runs, lanes = _opened(members, chosen, arithmetic, threads, tuning)
        except DeviceError as error:
            if chosen.required or chosen.provider == CPU:
                raise
            log.warning("a GPU is there, but %s; running on the CPU", error)
            chosen = Device(provider=CPU)
            self._runs, lanes = _opened(members, chosen, arithmetic, threads, tuning)
        self.execution_path = chosen.path(arithmetic)
        self._provider = chosen.provider
        self._max_batch = tuning.max_batch
        self._lanes = Lanes(lanes)
        self._pinned = Pinned(chosen, tuning.max_batch) if tuning.pinned_memory else None
        # Of all runs, the shortest time of a member for an image: what it takes where nothing is in its way.
        self._image_s = math.inf

    @property
    def lanes(self) -> int:
        """How many callers gain by running at once: on a GPU, which the members share already, one."""
        return self._lanes.count if self._provider == CPU else 1

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
        # On a GPU members at once are faster from one image on: most of a small run is the CPU's part in it.
        worth = self._provider != CPU or len(floats) * len(self._runs) * self._image_s >= _WORTH_S
        held = nullcontext(floats) if self._pinned is None else self._pinned.hold(floats)
        with held as floats, self._lanes.taken(self._lanes.count if worth else 1) as lanes:
            if lanes == 1 and self._provider != TENSORRT:
                return np.stack([self._timed(run, floats) for run in self._runs], axis=1)
            return self._divided(floats, lanes)

    def _divided(self, floats: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
        """The same, by members and by parts of the images."""
        parts = self._parts(floats, lanes)
        answers = self._lanes.each([partial(self._timed, run, part) for part in parts for run in self._runs], lanes)
        members = len(self._runs)
        stacked = [np.stack(answers[start : start + members], axis=1) for start in range(0, len(answers), members)]
        return np.concatenate(stacked)

    def _parts(self, floats: NDArray[np.float32], lanes: int) -> list[NDArray[np.float32]]:
        """Images in parts: on the CPU for each lane, on CUDA all together, on TensorRT as its engines take them."""
        if self._provider == CPU:
            return np.array_split(floats, max(1, min(lanes, len(floats) // _LEAST)))
        if self._provider != TENSORRT:
            return [floats]
        return [floats[start : start + self._max_batch] for start in range(0, len(floats), self._max_batch)]

    def _timed(self, run: Run, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """One member's logits, (n, L)."""
        begun_s = time.perf_counter()
        answer = run(floats)
        self._image_s = min(self._image_s, (time.perf_counter() - begun_s) / len(floats))
        return answer


def _opened(
    members: Sequence[bytes], device: Device, precision: Precision, threads: int, tuning: Tuning
) -> tuple[list[Run], int]:
    """The members, and how many lanes run them."""
    # A lane for each member; on the CPU as far as there are threads, and what is left over is the sessions' own.
    lanes = min(threads, len(members)) if device.provider == CPU else len(members)
    own = max(1, threads // lanes)
    return Sessions(device=device, precision=precision, threads=own, tuning=tuning).open(members), lanes
