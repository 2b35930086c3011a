"""The detector: a bundle on a device, answering with verdicts. Needs neither torch nor gRPC."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.deviation import Deviation
from detector.device import ExecutionPath, each_device
from detector.ensemble import Ensemble
from detector.errors import CalibrationError
from detector.imageset import Images
from detector.outputs import Outputs
from detector.precision import Precision
from detector.prediction import check_logits
from detector.replicas import Replicas
from detector.scores import DEFAULT_SCORE, score_named
from detector.tuning import Tuning
from detector.verdicts import Verdicts

_CHUNK: Final = 64  # images a run: bounds memory, and costs nothing on a CPU


class Detector:
    """A bundle, opened and ready.

    Attributes:
        bundle: What is served.
        execution_path: Where and how it runs.
        ensembles: The members, on each of its devices.
        deviation: How far the calibration's probes have moved here, on the device where they moved most; None without
            any.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = Precision.FLOAT32,
        threads: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.bundle = bundle
        self.ensembles = tuple(
            Ensemble(bundle.members, device=one, precision=precision, threads=threads, tuning=tuning)
            for one in each_device(device)
        )
        self._run = Replicas(self.ensembles) if len(self.ensembles) > 1 else self.ensembles[0]
        self.deviation: Deviation | None = None
        calibration = bundle.calibration
        self._score = score_named(DEFAULT_SCORE) if calibration is None else calibration.score_fitted
        if bundle.probes is not None and calibration is not None:
            judges = [_Alone(detector=self, ensemble=ensemble) for ensemble in self.ensembles]
            found = [moved for one in judges if (moved := bundle.probes.check(one, calibration)) is not None]
            self.deviation = max(found, key=lambda moved: (moved.score, moved.logits), default=None)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: str = "auto",
        precision: str = Precision.FLOAT32,
        threads: int | None = None,
    ) -> "Detector":
        """Opens a bundle on a device.

        Args:
            path: The bundle's folder.
            device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`; several GPUs as `cuda:0,1` or `cuda:all`. Only
                `auto` falls back to the CPU.
            precision: `float32`, `float16`, or, on TensorRT, `bfloat16`: what the members compute in.
            threads: CPU threads; by default the cores this process may use.

        Raises:
            BundleError: The bundle is damaged or refused.
            CalibrationError: Its calibration belongs to other members, or does not hold on this
                device in this precision.
            DeviceError: The device is not there, or has not this precision.
        """
        return cls(Bundle.open(Path(path)), device=device, precision=precision, threads=threads)

    @property
    def execution_path(self) -> ExecutionPath:
        """Where and how the members run."""
        return self._run.execution_path

    @property
    def lanes(self) -> int:
        """How many callers gain by running at once."""
        return sum(ensemble.lanes for ensemble in self.ensembles)

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs the members once on images that have been checked: (N, C, H, W) to (N, K, L)."""
        return self._run.logits(images)

    def runs(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """The logits of any number of images that have been checked, a bounded number of them at a time."""
        for start in range(0, len(images), _CHUNK):
            yield self.logits(images[start : start + _CHUNK])

    def judge(self, logits: NDArray[np.floating[Any]], *, members: bool = False) -> Verdicts:
        """Turns logits into verdicts; each image is judged by itself.

        Args:
            logits: (N, K, L) float32 or float64.
            members: Whether to return each member's probabilities too.

        Raises:
            InputError: Logits that are not finite: never a verdict.
            CalibrationError: A score that is not a number.
        """
        outputs = Outputs(logits)
        labels = outputs.labels
        calibration = self.bundle.calibration
        score = self._score.measure(outputs)
        if np.isnan(score).any():  # never below a threshold, and so never "clean"
            raise CalibrationError(f"{self._score.name}: expected numbers, found nan")
        return Verdicts(
            labels=labels,
            class_names=tuple(self.bundle.labels[label] for label in labels),
            probabilities=outputs.probabilities,
            log_diversity=outputs.log_diversity,
            score=score,
            p_values=None if calibration is None else calibration.p_values(score, labels),
            adversarial=None if calibration is None else calibration.flags(score, labels),
            member_probabilities=outputs.member_probabilities if members else None,
            recalibrated_probabilities=None if calibration is None else calibration.recalibrated(outputs.probabilities),
        )

    def classify(self, images: Any, *, members: bool = False) -> Verdicts:
        """Classifies images and says which look adversarial.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1].
            members: Whether to return each member's probabilities too.

        Raises:
            InputError: Images that do not fit the bundle; or a member answered with NaN.
        """
        checked = self.bundle.input.check(images)
        starts = range(0, len(checked), _CHUNK)
        # Checked as a whole, so that a message counts images from the first.
        logits = check_logits(np.concatenate(list(self.runs(checked))))
        return Verdicts.concatenate([self.judge(logits[start : start + _CHUNK], members=members) for start in starts])


@dataclass(frozen=True, kw_only=True)
class _Alone:
    """A detector on one of its devices, for its probes."""

    detector: Detector
    ensemble: Ensemble

    @property
    def execution_path(self) -> ExecutionPath:
        """Where and how its members run."""
        return self.detector.execution_path

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs the members there."""
        return self.ensemble.logits(images)

    def judge(self, logits: NDArray[np.floating[Any]]) -> Verdicts:
        """Turns logits into verdicts."""
        return self.detector.judge(logits)
