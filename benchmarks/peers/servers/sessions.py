"""The members of a bundle's folder on ONNX Runtime, one thread each, for servers of others."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray


class Sessions:
    """All members, run one after another.

    Args:
        bundle: The folder.
    """

    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions: list[Any] = [
            onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            for file in sorted(bundle.glob("member_*.onnx"))
        ]
        self._name = self._sessions[0].get_inputs()[0].name

    @property
    def shape(self) -> tuple[int, ...]:
        """C, H, W."""
        return tuple(self._sessions[0].get_inputs()[0].shape[1:])

    @property
    def classes(self) -> int:
        """L."""
        return int(self._sessions[0].get_outputs()[0].shape[1])

    def __len__(self) -> int:
        """K."""
        return len(self._sessions)

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, C, H, W) float32 to (N, K, L)."""
        return np.stack([session.run(None, {self._name: images})[0] for session in self._sessions], axis=1)
