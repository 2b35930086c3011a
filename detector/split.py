"""Images split into the parts of a calibration, with what the ensemble made of them.

Of each image only what scores and fits need is kept, see `Score.keep`: five scores, eleven statistics and, where a
covariance can be fitted on them, at most 512 logits. The prediction of all classes, which a temperature needs, is
kept of so many images of a set. So hundreds of thousands of images fit into memory, whatever K and L are.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.detector import Detector
from detector.document import sha256
from detector.errors import InputError
from detector.outputs import Outputs
from detector.parts import Source, Sources, check_draw, draw, one_of_each
from detector.prediction import Floats, Ints, check_labels
from detector.scan import PART, Kept, scan
from detector.scores import SCORES, score_named
from detector.scores.score import Score
from detector.source import ImageSource, Selection
from detector.success import Truth, succeeded, truths
from detector.unfinished import Unfinished

SAMPLE: Final = 1 << 22
"""So many probabilities of a set are kept, of all classes of images drawn at random: for one number, the temperature,
plenty. With 10 classes these are 419,430 images, with 1,000 they are 4,194."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Images with what is kept of the members' answers: enough for every score, and no logits beyond that.

    Attributes:
        images: Where they are, n of them; they are not in memory.
        classes: (n,) the ensemble's class of each.
        kept: (n, ...) for each score by its name, see `Score.keep`.
        sampled: (n,) bool, of which images the prediction is kept.
        predictions: (m, L) the prediction of those.
        sources: n sources.
        success: (n,) bool, for attacked images: right before the attack and wrong after it; None where not known.
    """

    images: Selection
    classes: Ints
    kept: Mapping[str, NDArray[Any]]
    sampled: NDArray[np.bool_]
    predictions: Floats
    sources: Sequence[Source]
    success: NDArray[np.bool_] | None

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """Which are classified right: (n,) bool; None without labels."""
        return None if self.images.labels is None else self.classes == self.images.labels

    @property
    def truths(self) -> dict[Source, Truth]:
        """By its source, what is known of each clean image."""
        return truths(self.sources, self.classes, self.images.labels)

    @property
    def predicted(self) -> tuple[Floats, Ints] | None:
        """Predictions (m, L) with the true classes (m,), for a temperature; None where one of the two lacks."""
        labels = self.images.labels
        return None if labels is None or not len(self.predictions) else (self.predictions, labels[self.sampled])

    def scores(self, score: Score) -> Floats:
        """A score of each: (n,)."""
        return score.of_kept(self.kept[score.name], self.classes)

    def among(self, chosen: Collection[Source]) -> NDArray[np.bool_]:
        """Which come from the chosen sources: (n,) bool."""
        return np.array([source in chosen for source in self.sources], dtype=np.bool_)

    def only(self, mask: NDArray[np.bool_]) -> "Answered":
        """The images of a mask (n,) that has at least one True."""
        return Answered(
            images=self.images.only(mask),
            classes=self.classes[mask],
            kept={name: values[mask] for name, values in self.kept.items()},
            sampled=self.sampled[mask],
            predictions=self.predictions[mask[self.sampled]],
            sources=[source for source, here in zip(self.sources, mask, strict=True) if here],
            success=None if self.success is None else self.success[mask],
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a calibration, disjoint by source image.

    Attributes:
        fit: Clean images that the score is fitted on; None where it has nothing to fit.
        threshold: Clean images that choose the threshold.
        report: Clean images that report.
        attacks_threshold: Attacked images of the threshold's sources, by attack.
        attacks_report: Attacked images that report.
        repeats: Clean images that do not count, since another one of their source does.
        classes: L.
    """

    fit: Answered | None
    threshold: Answered
    report: Answered
    attacks_threshold: Mapping[str, Answered]
    attacks_report: Mapping[str, Answered]
    repeats: int
    classes: int

    @property
    def unreported(self) -> list[Answered]:
        """The clean images that do not report."""
        return [part for part in (self.fit, self.threshold) if part is not None]

    def fitted(self, score: Score, images: Sequence[Answered]) -> Score:
        """A score, fitted on some of the clean images.

        Raises:
            CalibrationError: Images that it cannot be fitted on.
        """
        kept = np.concatenate([part.kept[score.name] for part in images])
        return score.fit_kept(kept, np.concatenate([part.classes for part in images]), self.classes)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Long work, kept until it is done: of each set of images by itself.

    Attributes:
        folder: Where.
        digests: SHA-256 of the content of each set, by its name; a set without one is not kept. What is kept of
            a set depends on it, the members and the execution path alone, so that the same images are not
            scored again when the other ones, the target or the score change.
    """

    folder: Path
    digests: Mapping[str, str]

    def of(self, name: str, detector: Detector) -> Unfinished | None:
        """That of one set; None where it is not kept."""
        if name not in self.digests:
            return None
        told = {
            "images": self.digests[name],
            "members": detector.bundle.members_digest,
            "path": str(detector.execution_path),
            "kept": [*SCORES, SAMPLE],
        }
        return Unfinished(self._folder(told), told)

    def discard(self, detector: Detector) -> None:
        """Removes what was kept of these sets, once the result is written; others' work stays."""
        for name in self.digests:
            if (kept := self.of(name, detector)) is not None:
                kept.discard()
        with suppress(OSError):  # there is none, or others' work is in it
            self.folder.rmdir()

    def _folder(self, told: Mapping[str, Any]) -> Path:
        """That of one set."""
        return self.folder / sha256(json.dumps(told, sort_keys=True).encode())[:16]


@dataclass(frozen=True, kw_only=True)
class Split:
    """How images are split.

    Attributes:
        sources: Of all images.
        report_fraction: Share of the clean sources that report; not used with a report set.
        fit_fraction: Share of the other ones that a score is fitted on; None where none is.
        seed: Of the draws.
        work: Where the members' answers are kept meanwhile; None keeps none.
    """

    sources: Sources
    report_fraction: float
    fit_fraction: float | None
    seed: int
    work: Work | None = None

    def __post_init__(self) -> None:
        check_draw(self.report_fraction, self.seed, "report")
        check_draw(self.fit_fraction, self.seed, "fit")

    def parts(
        self,
        detector: Detector,
        clean: ImageSource,
        report_clean: ImageSource | None,
        attacks: Mapping[str, ImageSource],
    ) -> Parts:
        """Runs the members over the images and splits them.

        Raises:
            InputError: Images that do not fit, parts that overlap, or a part without images.
        """
        rest, report, repeats = self._clean(detector, clean, report_clean)
        known = {**rest.truths, **report.truths}
        fit: set[Source] = set()
        if self.fit_fraction is not None:
            fit = draw(rest.sources, self.fit_fraction, self.seed, "fit")
        threshold = rest.only(~rest.among(fit))
        for_threshold: dict[str, Answered] = {}
        for_report: dict[str, Answered] = {}
        for name, images in attacks.items():
            attacked = self._run(detector, images, name, f"attack {name}")
            if attacked.success is None:
                found = succeeded(attacked.sources, attacked.classes, attacked.images.labels, known)
                attacked = replace(attacked, success=found)
            unreported, here = attacked.among(set(rest.sources)), attacked.among(set(threshold.sources))
            if unreported.all():
                raise InputError(
                    f"{name}: expected images of the report part, found none; all sources choose the threshold"
                )
            for_report[name] = attacked.only(~unreported)
            if here.any():
                for_threshold[name] = attacked.only(here)
        return Parts(
            fit=rest.only(rest.among(fit)) if fit else None,
            threshold=threshold,
            report=report,
            attacks_threshold=for_threshold,
            attacks_report=for_report,
            repeats=repeats,
            classes=detector.bundle.class_count,
        )

    def _clean(
        self, detector: Detector, clean: ImageSource, report_clean: ImageSource | None
    ) -> tuple[Answered, Answered, int]:
        """The clean images that do not report, those that do, and how many do not count."""
        answered = self._run(detector, clean, "clean", "clean")
        if report_clean is None:
            reporting = answered.among(draw(answered.sources, self.report_fraction, self.seed))
            return answered.only(~reporting), answered.only(reporting), len(clean) - len(answered.images)
        report = self._run(detector, report_clean, "report", "report")
        shared = set(answered.sources) & set(report.sources)
        if shared:
            raise InputError(f"report images: expected other images than the threshold's, found {len(shared)} in both")
        counted = len(answered.images) + len(report.images)
        return answered, report, len(clean) + len(report_clean) - counted

    def _run(self, detector: Detector, images: ImageSource, name: str, key: str) -> Answered:
        """Runs the members over the images, and leaves one of each source; `key` is the set's name in the work."""
        count = len(images)
        if images.labels is not None:
            check_labels(images.labels, count, detector.bundle.class_count, f"{name}: labels")
        sampled = _sampled(count, detector.bundle.class_count, labelled=images.labels is not None)
        unfinished = self.work.of(key, detector) if self.work is not None and count > PART else None
        kept = scan(detector, images, partial(_kept, sampled), name=name, unfinished=unfinished)
        sources = self.sources.of(images, kept["pixels"])
        answered = Answered(
            images=Selection(source=images, rows=np.arange(count)),
            classes=kept["classes"],
            kept={score: kept[score] for score in SCORES},
            sampled=sampled,
            predictions=kept["predictions"],
            sources=sources,
            success=images.success,
        )
        single = one_of_each(sources, self.seed)
        return answered if single.all() else answered.only(single)


def _sampled(count: int, classes: int, *, labelled: bool) -> NDArray[np.bool_]:
    """Of which images of a set the prediction is kept, (N,) bool: of none without labels."""
    most = max(1, SAMPLE // classes)
    if not labelled or count <= most:
        return np.full(count, labelled)
    sampled = np.zeros(count, dtype=np.bool_)
    sampled[np.random.default_rng(0).choice(count, most, replace=False)] = True
    return sampled


def _kept(sampled: NDArray[np.bool_], logits: NDArray[np.float32], first: int) -> Kept:
    """What is kept of some images: what each score needs, the class, and of those sampled the prediction."""
    outputs = Outputs(logits)
    here = sampled[first : first + len(outputs)]
    scores = {name: score_named(name).keep(outputs) for name in SCORES}
    return {**scores, "classes": outputs.labels, "predictions": outputs.probabilities[here]}
