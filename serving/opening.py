"""From a folder to a detector that is ready to serve: opened, checked, and warm."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.bundle import Bundle
from detector.detector import Detector
from detector.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class Opener:
    """How bundles are opened.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.
        threads: CPU threads of a model; None for the cores this process may use.
        max_batch: Most images in one run.
    """

    device: str = "auto"
    threads: int | None = None
    max_batch: int = 1

    def open(self, folder: Path) -> Detector:
        """Opens a folder: `read`, then `ready`."""
        return self.ready(self.read(folder))

    def read(self, folder: Path) -> Bundle:
        """Reads a bundle and checks its digests.

        A link is followed once, so that a bundle keeps its name when the link is moved.

        Raises:
            LedgateError: The bundle is damaged or refused.
        """
        return Bundle.open(folder.resolve())

    def ready(self, bundle: Bundle) -> Detector:
        """Makes a bundle ready: its probes are tried, and the first runs, which are slow, are done.

        Raises:
            LedgateError: It does not hold on this device, or does not run.
        """
        detector = Detector(bundle, device=self.device, threads=self.threads)
        for count in {1, self.max_batch}:
            logits = detector.logits(np.zeros((count, *bundle.input.shape), np.float32))
            if not np.isfinite(logits).all():
                raise BundleError(f"{bundle.path}: expected numbers for black images, found nan or infinity")
        return detector
