"""The gate: a threshold of log diversity, chosen on a run's clean calibration images and on nothing else."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.outputs import Outputs
from detector.targets import TargetFpr
from detector.threshold import Threshold
from training.attacked import batch_size_on
from training.datasets import Dataset
from training.splits import take
from training.trainer import predict
from training.victim import Victim

TARGET: Final = TargetFpr(0.05)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is flagged.

    Attributes:
        least: Images whose log diversity is below it.
    """

    least: float

    @classmethod
    def of(cls, victim: Victim, dataset: Dataset) -> "Gate":
        """Flags at most 5 % of clean images, with confidence 95 %.

        Args:
            victim: The run's networks.
            dataset: What it was trained on, whose calibration part it has not seen.

        Raises:
            CalibrationError: Too few calibration images for that promise.
        """
        logits = predict(victim.ensemble, take(dataset, "calibration"), batch_size=batch_size_on(victim.device))
        return cls(least=TARGET.threshold(Outputs(logits).log_diversity, []))

    @property
    def threshold(self) -> Threshold:
        """The same for those who take any threshold."""
        return Threshold(overall=self.least)

    def flags(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which of N images are flagged, by their (N, K, L) logits; the label left out is the prediction."""
        outputs = Outputs(logits)
        return self.threshold.flags(outputs.log_diversity, outputs.labels)
