"""What serving needs of a detector: `detector.detector.Detector`, or anything that does the same."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.device import ExecutionPath
from detector.imageset import Images
from detector.verdicts import Verdicts


class Detecting(Protocol):
    """A bundle on a device. So many threads as there are lanes call `logits` and `judge`."""

    @property
    def bundle(self) -> Bundle:
        """What is served."""

    @property
    def execution_path(self) -> ExecutionPath:
        """Where and how it runs."""

    @property
    def lanes(self) -> int:
        """How many batches it can run at once without one being in another's way."""

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs the members once: (N, C, H, W) to (N, K, L), which may hold NaN."""

    def judge(self, logits: NDArray[np.floating[Any]], *, members: bool = False) -> Verdicts:
        """Turns finite logits into verdicts, each image by itself."""
