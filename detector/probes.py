"""Probes: a few calibration images with their scores, to recognise a changed execution path.

A threshold means nothing in other arithmetic. Whoever opens a calibrated bundle runs the probes
first: the members' logits and the scores must come out as recorded, within tolerances, and every
flag the same. The logits are the finer sieve: log diversity near 0 hardly moves with them.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.calibration import Calibration
from detector.deviation import Deviation
from detector.device import ExecutionPath
from detector.errors import CalibrationError, InputError
from detector.files import replacing
from detector.imageset import Images
from detector.outputs import Outputs
from detector.prediction import Floats, Ints
from detector.verdicts import Verdicts

FILE: Final = "probes.npz"
COUNT: Final = 32
# Other CPUs and batch sizes move logits by about 1e-6, TF32 by 1e-3 and the score by up to 0.025.
TOLERANCE: Final = 1e-3
LOGIT_TOLERANCE: Final = 1e-4


class Judge(Protocol):
    """What runs probes: a detector."""

    @property
    def execution_path(self) -> ExecutionPath:
        """Where and how its members run."""

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Runs the members."""

    def judge(self, logits: NDArray[np.floating[Any]]) -> Verdicts:
        """Turns logits into verdicts."""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Probe images with what they gave when the calibration was made.

    Attributes:
        images: (P, C, H, W).
        logits: (P, K, L) float32.
        scores: (P,) float64.
    """

    images: Images
    logits: NDArray[np.float32]
    scores: Floats

    @classmethod
    def choose(
        cls, take: Callable[[Ints], Images], logits: NDArray[np.float32], scores: Floats, limits: Floats
    ) -> "Probes":
        """Images at evenly spaced ranks of the score.

        `take` gives the images of rows. None lies so near the threshold of its class, (N,) `limits`,
        that its flag is a matter of rounding.
        """
        order = np.argsort(scores, kind="stable")
        order = order[~_close(scores[order], limits[order], TOLERANCE)]
        chosen = order[np.unique(np.linspace(0, len(order) - 1, COUNT).round().astype(int))] if len(order) else order
        return cls(images=take(chosen), logits=logits[chosen], scores=scores[chosen])

    @classmethod
    def parse(cls, content: bytes, path: Path) -> "Probes":
        """Reads the content of `probes.npz`, whose digest has been checked."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                probes = cls(images=file["images"], logits=file["logits"], scores=file["scores"])
        except Exception as error:  # noqa: BLE001  zipfile, zlib and numpy have no common class for damaged archives
            raise CalibrationError(f"{path}: expected probes, found none ({error})") from None
        shape = probes.scores.shape
        if len(shape) != 1 or probes.scores.dtype != np.float64 or probes.images.shape[:1] != shape:
            raise CalibrationError(
                f"{path}: expected one float64 score for each image, found {shape} {probes.scores.dtype} "
                f"for {probes.images.shape}"
            )
        if probes.logits.ndim != 3 or probes.logits.shape[:1] != shape:
            raise CalibrationError(f"{path}: expected logits (P, K, L), found {probes.logits.shape} for {shape}")
        return probes

    def save(self, path: Path) -> None:
        """Writes `probes.npz`, whole or not at all."""
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, images=self.images, logits=self.logits, scores=self.scores)

    def check(self, judge: Judge, calibration: Calibration) -> Deviation | None:
        """Runs the probes.

        Returns:
            How far they have moved; None where there are none, and the path is the same.

        Raises:
            CalibrationError: Scores, flags or logits do not come out as recorded, or there is nothing to compare.
        """
        if len(self.images) == 0:
            if judge.execution_path != calibration.execution_path:
                raise CalibrationError(_refusal(judge, calibration, "it has no probes to compare"))
            return None
        try:
            logits = judge.logits(self.images)
            verdicts = judge.judge(logits)
            labels = Outputs(self.logits).labels
        except InputError as error:
            raise CalibrationError(_refusal(judge, calibration, str(error))) from None
        if logits.shape != self.logits.shape:
            found = f"expected logits {self.logits.shape}, found {logits.shape}"
            raise CalibrationError(_refusal(judge, calibration, found))
        assert verdicts.score is not None
        turned = calibration.flags(verdicts.score, verdicts.labels) != calibration.flags(self.scores, labels)
        gap = np.abs(logits - self.logits).max(axis=(1, 2))
        deviation = Deviation(
            score=float(_distance(verdicts.score, self.scores).max()),
            logits=float(gap.max()),
            flags=int(turned.sum()),
            probes=len(gap),
        )
        moved = ~_close(verdicts.score, self.scores, calibration.probes.tolerance) | turned
        tolerance = calibration.probes.logit_tolerance
        if moved.any():
            found = f"{int(moved.sum())} of {len(moved)} probes differ: {deviation}"
            raise CalibrationError(_refusal(judge, calibration, found))
        if tolerance is not None and (gap > tolerance * np.maximum(1.0, np.abs(self.logits).max(axis=(1, 2)))).any():
            raise CalibrationError(_refusal(judge, calibration, f"the logits of a probe differ: {deviation}"))
        return deviation


def _refusal(judge: Judge, calibration: Calibration, reason: str) -> str:
    """The message with what to do."""
    here = judge.execution_path
    return (
        f"calibration: made on {calibration.execution_path}, does not hold on {here}: {reason}; calibrate on this "
        f"device: ledgate calibrate BUNDLE --device ... --precision {here.dtype} --clean ... --adversarial ..."
    )


def _close(found: Floats, recorded: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Equal within a tolerance relative to max(1, |recorded|); infinities equal themselves only."""
    with np.errstate(invalid="ignore"):
        near = np.abs(found - recorded) <= tolerance * np.maximum(1.0, np.abs(recorded))
    finite = np.isfinite(found) & np.isfinite(recorded)
    return np.where(finite, near, found == recorded)


def _distance(found: Floats, recorded: Floats) -> Floats:
    """How far apart; infinities of one sign are not."""
    with np.errstate(invalid="ignore"):
        return np.where(found == recorded, 0.0, np.abs(found - recorded))
