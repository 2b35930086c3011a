"""Measures an experiment: chooses strengths on validation images, attacks test images, and asks every score."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.imageset import ImageSet
from detector.prediction import Floats
from detector.rates import Rate
from detector.scores import SCORES
from training.attacks import Attack, DetectorAware
from training.detection.choose import Choice, choose
from training.detection.content import Aimed, Attacked, Found
from training.detection.counts import CLEAN, choosing_on
from training.detection.figures import figures
from training.detection.kept import Kept
from training.detection.ladder import climb, ladders
from training.detection.material import Answers, Material
from training.detection.subject import AIM, Subject, answers
from training.evaluation.experiment import Experiment
from training.execution import describe_machine, reproducible
from training.robustness.counts import Counts


@dataclass(frozen=True, kw_only=True)
class How:
    """How to compute.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        threads: CPU threads, at least 1.
        progress: Whether to show bars on standard error, if that is a terminal.
    """

    device: str
    threads: int
    progress: bool


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run, measured.

    Attributes:
        found: Its figures.
        scores: Of every image, by the score's name.
    """

    found: Found
    scores: Mapping[str, Answers[Floats]]


class Bench:
    """An experiment whose runs are attacked alike.

    Args:
        experiment: The runs.
        kept: The attacked images of earlier calls, and of this one.
        counts: How many test images are attacked.
        how: On what.

    Raises:
        InputError: No such device.
        RunError: A run that is not finished.
    """

    def __init__(self, experiment: Experiment, kept: Kept, counts: Counts, how: How) -> None:
        self.experiment, self.kept, self.counts, self.how = experiment, kept, counts, how
        self.subjects = [
            Subject(each.run, each.dataset, device=how.device, threads=how.threads) for each in experiment.evaluations
        ]
        self.ladders = ladders(experiment.config)
        self._choosing = choosing_on(self.subjects[0].victim.device, counts)
        self._bar: tqdm[Any] | None = None
        self._rates: dict[Attack, list[Rate]] = {}

    def pending(self) -> Iterator[tuple[Subject, Attack, int]]:
        """What is not kept yet, with how many images; at most, since a choice need not try every strength.

        Raises:
            CalibrationError: Too few calibration images for a threshold, or for a fit.
        """
        for ladder in self.ladders.values():
            known = self._known(ladder)
            for subject in self.subjects:
                for attack in () if known is not None else ladder:
                    if not self._has(subject, attack, "validation", self._choosing):
                        yield subject, attack, self._choosing.of(attack)
                attack = ladder[-1] if known is None else known.attack
                if not self._has(subject, attack, "test", self.counts):
                    yield subject, attack, self.counts.of(attack)
        for subject in self.subjects:
            for name in subject.scores:
                attack = self._aiming(subject, name)
                if not self._has(subject, attack, "test", self.counts):
                    yield subject, attack, self.counts.of(attack)

    def measure(self, bar: "tqdm[Any] | None" = None) -> list[Measured]:
        """Every run, in the experiment's order; what is finished is kept.

        Args:
            bar: Told of each set of images once it is attacked, and of those that need not be.

        Raises:
            CalibrationError: Too few calibration images for a threshold, or for a fit.
        """
        self._bar = bar
        choices = {method: self._choose(ladder) for method, ladder in self.ladders.items()}
        return [self._measured(subject, choices) for subject in self.subjects]

    def _choose(self, ladder: Sequence[Attack]) -> Choice:
        """An attack's strength, the same for all runs."""
        choice = choose(ladder, self._left)
        if self._bar is not None and self._bar.total is not None:
            self._bar.total -= sum(
                not self._has(subject, attack, "validation", self._choosing)
                for subject in self.subjects for attack in ladder[len(choice.tried) :]
            )  # fmt: skip
        return choice

    def _known(self, ladder: Sequence[Attack]) -> Choice | None:
        """The strength, if all that it rests on is kept."""
        choice: Choice | None = None
        for stop, attack in enumerate(ladder, start=1):
            if not all(self._has(subject, attack, "validation", self._choosing) for subject in self.subjects):
                return None
            choice = choose(ladder[:stop], self._left)
            if choice.reached:
                break
        return choice

    def _left(self, attack: Attack) -> list[Rate]:
        """What an attack leaves right of each run's validation images; looked at once."""
        if attack not in self._rates:
            attacked = [self._attacked(subject, attack, "validation", self._choosing) for subject in self.subjects]
            pairs = zip(self.subjects, attacked, strict=True)
            self._rates[attack] = [Rate.of(subject.is_right(images)) for subject, images in pairs]
        return self._rates[attack]

    def _measured(self, subject: Subject, choices: Mapping[str, Choice]) -> Measured:
        """One run."""
        attacked = {
            method: self._attacked(subject, choice.attack, "test", self.counts) for method, choice in choices.items()
        }
        aiming = {name: self._aiming(subject, name) for name in subject.scores}
        aimed = {name: self._attacked(subject, attack, "test", self.counts) for name, attack in aiming.items()}
        material = Material(behind=subject.behind, clean=subject.images("test", CLEAN), attacked=attacked, aimed=aimed)
        logits = material.ask(subject.logits)
        scores = {name: logits.map(score.of) for name, score in subject.scores.items()}
        with reproducible(subject.threads, subject.victim.device):
            machine = describe_machine(subject.victim.device, 1)
        config = subject.run.config
        found = Found(
            run=subject.digest,
            name=subject.run.path.resolve().name,
            title=self.experiment.title,
            slug=self.experiment.slug,
            dataset=config.dataset,
            alpha=config.alpha,
            beta=config.beta,
            seed=config.seed,
            images={
                "fit": len(subject.fit),
                "behind": len(subject.behind),
                "clean": len(material.clean),
                "changed": len(next(iter(material.changed.values()))),
                **{method: len(images) for method, images in attacked.items()},
                "aimed": min(map(len, aimed.values())),
            },
            material=material.digest,
            right=Rate.of(answers(logits.clean) == material.clean.labels),
            attacks=tuple(
                self._of_attack(subject, method, choice, attacked[method], logits.attacked[method])
                for method, choice in choices.items()
            ),
            aimed=tuple(
                self._of_aimed(subject, attack, aimed[name], logits.aimed[name]) for name, attack in aiming.items()
            ),
            figures=tuple(
                figures(name, scores[name], material, fitted_on=_fitted_on(subject, name)) for name in scores
            ),
            machine=machine,
        )
        return Measured(found=found, scores=scores)

    def _of_attack(
        self, subject: Subject, method: str, choice: Choice, images: ImageSet, logits: NDArray[np.float32]
    ) -> Attacked:
        """What an attack did."""
        assert images.success is not None
        return Attacked(
            method=method,
            settings=choice.attack.describe(),
            reached=choice.reached,
            tried=choice.tried,
            validation=choice.rung.right[self.subjects.index(subject)],
            right=Rate.of(answers(logits) == images.labels),
            success=Rate.of(images.success),
            norms=images.info["attack"]["found"]["norms_of_successes"],
            file=self._file(subject, choice.attack, "test", self.counts),
            chosen_on=self._file(subject, choice.attack, "validation", self._choosing),
        )

    def _aiming(self, subject: Subject, score: str) -> DetectorAware:
        """Someone who knows a score, what was fitted, and the threshold."""
        return DetectorAware(
            attack=climb(subject.run.config), score=subject.scores[score], threshold=subject.thresholds[score]
        )

    def _of_aimed(
        self, subject: Subject, attack: DetectorAware, images: ImageSet, logits: NDArray[np.float32]
    ) -> Aimed:
        """What someone who knows a score did."""
        wrong = np.asarray(answers(logits) != images.labels)
        return Aimed(
            score=attack.score.name,
            settings=attack.describe(),
            wrong=Rate.of(wrong),
            unnoticed=Rate.of(wrong & ~attack.flags(logits)),
            file=self._file(subject, attack, "test", self.counts),
        )

    def _attacked(self, subject: Subject, attack: Attack, split: str, counts: Counts) -> ImageSet:
        """Attacked images, kept."""
        file = self._file(subject, attack, split, counts)
        new = not self.kept.has(file)
        found = self.kept.attacked(
            file, subject.run, subject.images(split, counts.of(attack)), attack, aim=AIM,
            device=self.how.device, threads=self.how.threads, progress=self.how.progress,
        )  # fmt: skip
        if new and self._bar is not None:
            self._bar.update()
        return found

    def _has(self, subject: Subject, attack: Attack, split: str, counts: Counts) -> bool:
        """Whether those are kept already."""
        return self.kept.has(self._file(subject, attack, split, counts))

    def _file(self, subject: Subject, attack: Attack, split: str, counts: Counts) -> str:
        """The name of their file."""
        return self.kept.file(subject.run, attack, subject.task(attack, split, counts.of(attack)), split)


def _fitted_on(subject: Subject, score: str) -> str:
    """As a phrase."""
    return f"{len(subject.fit):,} clean calibration images" if SCORES[score].needs_fit else "nothing"
