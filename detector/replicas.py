"""Replicas: the same members on several GPUs, an ensemble on each, and each batch handed to the one with least to do.

A batch is not divided: half of a small one takes a GPU hardly less time. So replicas gain where several batches are
under way, as in a server; who runs one after another has the speed of one GPU.
"""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.device import ExecutionPath
from detector.ensemble import Ensemble
from detector.imageset import Images


class Replicas:
    """Ensembles that answer alike. Several threads may run them at once.

    Args:
        ensembles: At least one, all of the same members and the same execution path.
    """

    def __init__(self, ensembles: Sequence[Ensemble]) -> None:
        assert len({ensemble.execution_path for ensemble in ensembles}) == 1
        self.execution_path: ExecutionPath = ensembles[0].execution_path
        self._ensembles = tuple(ensembles)
        self._lock = threading.Lock()
        self._under_way = [0] * len(ensembles)

    def logits(self, images: Images) -> NDArray[np.float32]:
        """What each of the ensembles gives, from that which runs the fewest batches; of several, the first."""
        with self._lock:
            chosen = self._under_way.index(min(self._under_way))
            self._under_way[chosen] += 1
        try:
            return self._ensembles[chosen].logits(images)
        finally:
            with self._lock:
                self._under_way[chosen] -= 1
