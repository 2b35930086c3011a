"""Measures one cell: attacks a sample of the test images, and looks what ensemble and members make of them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from detector.imageset import ImageSet
from detector.prediction import mean_prediction
from detector.rates import Rate
from detector.sample import sample
from training.aim import Aim
from training.attacked import attack_with_logits
from training.attacks.attack import Attack
from training.datasets import Dataset
from training.execution import describe_machine, reproducible
from training.robustness.cell import Cell, Task
from training.robustness.gate import Gate
from training.run import Run
from training.splits import split_rows, take
from training.victim import Victim

SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell to compute.

    Attributes:
        attack: The attack.
        aim: What is wanted of each image.
        images: How many; fewer where the test part has fewer.
        member: Crafted on that member alone, from 0; on the ensemble for None.
    """

    attack: Attack
    aim: Aim
    images: int
    member: int | None = None


class Subject:
    """A run that is attacked, with all that is needed for it.

    Args:
        run: A finished one.
        dataset: What it was trained on.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        threads: CPU threads, at least 1.

    Raises:
        RunError: Not a finished run.
        CalibrationError: Too few calibration images to choose a threshold.
    """

    def __init__(self, run: Run, dataset: Dataset, *, device: str, threads: int) -> None:
        self.victim = Victim.open(run, device=device)
        self.digest = self.victim.digest
        self._device, self._threads = device, threads
        self._dataset, self._available = dataset, len(split_rows(dataset)["test"])
        with reproducible(threads, self.victim.device):
            self.gate = Gate.of(self.victim, dataset)

    @property
    def test(self) -> ImageSet:
        """The test part, taken anew each time, since runs may be many and images large."""
        return take(self._dataset, "test")

    def sample(self, count: int) -> ImageSet:
        """The images that an attack on so many is measured on."""
        return sample(self.test, count, seed=SEED)

    def task(self, job: Job) -> Task:
        """What makes a job's figures what they are."""
        return Task(
            run=self.digest,
            attack=job.attack.describe(),
            aim=job.aim.describe(),
            member=job.member,
            images=min(job.images, self._available),
            seed=SEED,
        )

    def measure(self, job: Job, *, unfinished: Path | None = None, progress: bool = True) -> Cell:
        """Computes a cell.

        Args:
            job: Which one.
            unfinished: A folder to keep finished batches in, so that the same call goes on where it was stopped.
            progress: Whether to show a bar on standard error, if that is a terminal.
        """
        task = self.task(job)
        images = self.sample(task.images)
        started = time.perf_counter()
        attacked = attack_with_logits(
            self.victim.run, images, job.attack, aim=job.aim, member=job.member, device=self._device,
            threads=self._threads, progress=progress, unfinished=unfinished,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        with reproducible(self._threads, self.victim.device):
            machine = describe_machine(self.victim.device, 1)
        before, after, labels = attacked.before, attacked.after, np.asarray(images.labels)
        was_right, is_right = (mean_prediction(logits).argmax(axis=1) == labels for logits in (before, after))
        members = after.argmax(axis=2)
        wanted = attacked.targets
        return Cell(
            name=self.victim.run.path.resolve().name,
            task=task,
            clean=Rate.of(was_right),
            right=Rate.of(is_right),
            held=Rate.of(was_right & is_right),
            unnoticed=Rate.of(~is_right & ~self.gate.flags(after)),
            threshold=self.gate.least,
            clean_flagged=Rate.of(self.gate.flags(before)),
            members_right=tuple(Rate.of(answers == labels) for answers in members.T),
            members_at_target=() if wanted is None else tuple(Rate.of(answers == wanted) for answers in members.T),
            seconds=round(seconds, 2),
            machine=machine,
        )
