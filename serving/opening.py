"""From a folder to a detector that is ready to serve: opened, checked, and warm."""

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from detector.bundle import Bundle
from detector.detector import Detector
from detector.device import CPU
from detector.errors import BundleError
from detector.files import name_of
from detector.precision import Precision
from detector.tuning import Tuning

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Opener:
    """How bundles are opened.

    Attributes:
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`; several GPUs as `cuda:0,1` or `cuda:all`.
        precision: What the members compute in.
        threads: CPU threads of a model; None for the cores this process may use.
        max_batch: Most images in one run.
        cuda_graphs: See `detector.tuning.Tuning`.
        pinned_memory: The same.
        engine_cache: The same.
    """

    device: str = "auto"
    precision: str = Precision.FLOAT32
    threads: int | None = None
    max_batch: int = 1
    cuda_graphs: bool = False
    pinned_memory: bool = False
    engine_cache: Path | None = None

    def open(self, folder: Path, name: str | None = None) -> Detector:
        """Opens a folder: `read`, then `ready`."""
        return self.ready(self.read(folder, name))

    def read(self, folder: Path, name: str | None = None) -> Bundle:
        """Reads a bundle and checks its digests.

        A link is followed once, so that all files are of one version when the link is moved meanwhile.

        Args:
            folder: Of the bundle, or a link to it.
            name: By which it is offered; None for that of the folder, or of the link.

        Raises:
            LedgateError: The bundle is damaged or refused.
        """
        return Bundle.open(folder.resolve(), served_as=name or name_of(folder))

    def ready(self, bundle: Bundle) -> Detector:
        """Makes a bundle ready: its probes are tried, and the first runs, which are slow, are done.

        Raises:
            LedgateError: It does not hold on this device, or does not run.
        """
        tuning = Tuning(
            max_batch=self.max_batch,
            cuda_graphs=self.cuda_graphs,
            pinned_memory=self.pinned_memory,
            engine_cache=self.engine_cache,
        )
        detector = Detector(bundle, device=self.device, precision=self.precision, threads=self.threads, tuning=tuning)
        elsewhere = bundle.calibration is not None and bundle.calibration.execution_path != detector.execution_path
        if elsewhere and detector.deviation is not None:
            log.info("model %s on %s: probes: %s", bundle.name, detector.execution_path, detector.deviation)
        for count, ensemble in product(self._warmed(detector.execution_path.provider), detector.ensembles):
            logits = ensemble.logits(np.zeros((count, *bundle.input.shape), np.float32))
            if not np.isfinite(logits).all():
                raise BundleError(f"{bundle.path}: expected numbers for black images, found nan or infinity")
        return detector

    def _warmed(self, provider: str) -> list[int]:
        """Sizes of batches to run before anybody waits: on a GPU many, since it chooses its kernels anew for each."""
        sizes = {1, self.max_batch}
        if provider != CPU:
            sizes |= {2**power for power in range(self.max_batch.bit_length())}
        return sorted(sizes)
