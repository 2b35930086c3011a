"""A run whose detectors are measured: its networks, its images, and its scores, fitted on calibration images."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.imageset import ImageSet
from detector.parts import Source, draw
from detector.prediction import Ints, mean_prediction
from detector.sample import sample
from detector.scores import SCORES, score_named
from detector.scores.score import Score
from detector.threshold import Threshold
from training.aim import AwayFromLabel
from training.attacked import batch_size_on
from training.attacks import Attack
from training.datasets import Dataset
from training.execution import reproducible
from training.robustness.cell import Task
from training.robustness.gate import TARGET
from training.run import Run
from training.splits import split_rows, take
from training.trainer import predict
from training.victim import Victim

AIM: Final = AwayFromLabel()
SEED: Final = 0
_FIT: Final = 0.5


class Subject:
    """A run that is attacked, with all that is needed for it.

    Args:
        run: A finished one.
        dataset: What it was trained on.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        threads: CPU threads, at least 1.

    Raises:
        RunError: Not a finished run.
    """

    def __init__(self, run: Run, dataset: Dataset, *, device: str, threads: int) -> None:
        self.run, self.dataset = run, dataset
        self.victim = Victim.open(run, device=device)
        self.digest = self.victim.digest
        self.device, self.threads = device, threads

    def images(self, split: str, count: int) -> ImageSet:
        """A sample of a part, all of it where it has no more; smaller samples are part of larger ones."""
        part = take(self.dataset, split)
        return sample(part, min(count, len(part)), seed=SEED)

    def task(self, attack: Attack, split: str, count: int) -> Task:
        """What makes attacked images what they are, but for the part of the data set."""
        return Task(
            run=self.digest, attack=attack.describe(), aim=AIM.describe(), member=None,
            images=min(count, len(split_rows(self.dataset)[split])), seed=SEED,
        )  # fmt: skip

    def logits(self, images: ImageSet) -> NDArray[np.float32]:
        """The members' answers, (N, K, L), in full float32 on a GPU too."""
        with reproducible(self.threads, self.victim.device):
            return predict(self.victim.ensemble, images, batch_size=batch_size_on(self.victim.device))

    def is_right(self, images: ImageSet) -> NDArray[np.bool_]:
        """Which images the ensemble classifies right, (N,)."""
        return np.asarray(answers(self.logits(images)) == images.labels)

    @cached_property
    def fit(self) -> ImageSet:
        """Clean calibration images that scores are fitted on."""
        return self._calibration[0]

    @cached_property
    def behind(self) -> ImageSet:
        """Clean calibration images that thresholds are chosen on; none of those of `fit`."""
        return self._calibration[1]

    @cached_property
    def scores(self) -> Mapping[str, Score]:
        """Every score that we offer, fitted where it has to be, the one with most to fit first.

        Raises:
            CalibrationError: Too few calibration images for a fit.
        """
        logits = self.logits(self.fit)
        every = [score_named(name).fit(logits) for name in SCORES]
        return {score.name: score for score in sorted(every, key=lambda score: not score.needs_fit)}

    @cached_property
    def thresholds(self) -> Mapping[str, Threshold]:
        """Below which each score flags: at most 5 % of clean images, with confidence 95 %.

        Raises:
            CalibrationError: Too few calibration images for that promise.
        """
        logits = self.logits(self.behind)
        return {name: Threshold(overall=TARGET.threshold(score.of(logits), [])) for name, score in self.scores.items()}

    @cached_property
    def _calibration(self) -> tuple[ImageSet, ImageSet]:
        """The calibration part in two, by source image."""
        images = take(self.dataset, "calibration")
        sources = sources_of(images)
        fit = draw(sources, _FIT, SEED, part="fit")
        mask = np.array([source in fit for source in sources])
        return images.only(mask), images.only(~mask)


def answers(logits: NDArray[np.floating[Any]]) -> Ints:
    """The ensemble's class of each image: (N, K, L) logits to (N,)."""
    return np.asarray(mean_prediction(logits).argmax(axis=1))


def sources_of(images: ImageSet) -> Sequence[Source]:
    """The row of the data set that each image came from."""
    return [int(row) for row in images.rows]
