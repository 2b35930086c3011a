"""Binding: a session whose small runs read and write memory that never moves, so that a GPU can replay them.

A run of a small network is mostly the CPU telling the GPU about one kernel after another. A CUDA graph records that
once for each shape, and reads and writes the very addresses it was recorded with. So small batches are padded to a few
sizes, each with buffers of its own. Larger batches run as ever: there a graph gains nothing.

ONNX Runtime keeps what it has recorded by thread, and records anew in the next one. So a session has one thread, in
which all of its runs are made.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.device import CPU, Device

MOST: Final = 32
"""Most images in a bound run."""
_SIZES: Final = tuple(1 << power for power in range(MOST.bit_length()))
_NO_GRAPH: Final = -1


class Bound:
    """A session with buffers for 1, 2, 4 ... `MOST` images, all of them run once when it is made.

    Several threads may call it; its own thread serves one after another.

    Args:
        session: With one input (n, C, H, W) and one output (n, L), both float32.
        device: Where its buffers lie.
        graphs: Whether its bound runs are recorded, and replayed; then it was opened with `enable_cuda_graph`.
    """

    def __init__(self, session: Any, device: Device, *, graphs: bool) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bound")  # ends with this object
        self._given, self._wanted = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._unrecorded = _run_options(_NO_GRAPH) if graphs else None
        shape = tuple(session.get_inputs()[0].shape[1:])
        # Where images are put beside what fills them up: what is left of former ones, since no row changes another.
        self._staging = np.zeros((MOST, *shape), np.float32)
        classes = self._thread.submit(self._unbound, self._staging[:1]).result().shape[1]
        self._sizes = {
            size: _Size(session, (size, *shape), (size, classes), device, _run_options(size) if graphs else None)
            for size in _SIZES
        }
        for size in _SIZES:
            self(self._staging[:size])

    def __call__(self, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, L) of images (n, C, H, W); the caller's own."""
        return self._thread.submit(self._run, floats).result()

    def _run(self, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same, in the thread."""
        count = len(floats)
        if not 0 < count <= MOST:
            return self._unbound(floats)
        size = 1 << (count - 1).bit_length()
        self._staging[:count] = floats
        return self._sizes[size].run(self._staging[:size])[:count].copy()

    def _unbound(self, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """A plain run, which is never recorded: its memory moves."""
        logits: NDArray[np.float32] = self._session.run([self._wanted], {self._given: floats}, self._unrecorded)[0]
        return logits


class _Size:
    """The buffers of one batch size, and what runs the session on them."""

    def __init__(
        self, session: Any, given: tuple[int, ...], wanted: tuple[int, ...], device: Device, options: Any
    ) -> None:
        kind = "cpu" if device.provider == CPU else "cuda"
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._images = make(given, np.float32, kind, device.index)
        self._logits = make(wanted, np.float32, kind, device.index)
        self._session = session
        self._options = options
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._images)
        self._binding.bind_ortvalue_output(session.get_outputs()[0].name, self._logits)

    def run(self, floats: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of as many images as there is room for; on a CPU the buffer itself, which the next run overwrites."""
        self._images.update_inplace(floats)
        self._session.run_with_iobinding(self._binding, self._options)
        logits: NDArray[np.float32] = self._logits.numpy()
        return logits


def _run_options(graph: int) -> Any:
    """For a run that is recorded under a number, or never."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options
