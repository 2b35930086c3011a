"""Images split into the parts of a calibration, with what the ensemble made of them."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.detector import Detector
from detector.document import sha256
from detector.errors import InputError
from detector.outputs import in_blocks
from detector.parts import Source, Sources, check_draw, draw, one_of_each
from detector.prediction import Floats, Ints, check_labels
from detector.scan import PART, Kept, scan
from detector.source import ImageSource, Selection
from detector.unfinished import Unfinished


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Images with the members' answers: logits (N, K, L), prediction (N, L), and N sources."""

    images: Selection
    logits: NDArray[np.float32]
    probabilities: Floats
    sources: Sequence[Source]

    @property
    def classes(self) -> Ints:
        """The ensemble's class of each: (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """Which are classified right: (N,) bool; None without labels."""
        return None if self.images.labels is None else self.classes == self.images.labels

    def among(self, chosen: set[Source]) -> NDArray[np.bool_]:
        """Which come from the chosen sources: (N,) bool."""
        return np.array([source in chosen for source in self.sources], dtype=np.bool_)

    def only(self, mask: NDArray[np.bool_]) -> "Answered":
        """The images of a mask (N,) that has at least one True."""
        return Answered(
            images=self.images.only(mask),
            logits=self.logits[mask],
            probabilities=self.probabilities[mask],
            sources=[source for source, here in zip(self.sources, mask, strict=True) if here],
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
    """

    fit: Answered | None
    threshold: Answered
    report: Answered
    attacks_threshold: Mapping[str, Answered]
    attacks_report: Mapping[str, Answered]
    repeats: int

    @property
    def unreported(self) -> list[Answered]:
        """The clean images that do not report."""
        return [part for part in (self.fit, self.threshold) if part is not None]

    @property
    def unreported_logits(self) -> NDArray[np.float32]:
        """Their logits, (N, K, L)."""
        return np.concatenate([part.logits for part in self.unreported])


@dataclass(frozen=True, kw_only=True)
class Work:
    """Long work, kept until it is done.

    Attributes:
        folder: Where.
        told: What tells these images from others, as JSON.
    """

    folder: Path
    told: Mapping[str, Any]

    def of(self, name: str) -> Unfinished:
        """That of one set of images."""
        return Unfinished(self.folder / sha256(name.encode())[:16], {**self.told, "set": name})

    def discard(self) -> None:
        """Removes all of it, once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
        fit: set[Source] = set()
        if self.fit_fraction is not None:
            fit = draw(rest.sources, self.fit_fraction, self.seed, "fit")
        threshold = rest.only(~rest.among(fit))
        for_threshold: dict[str, Answered] = {}
        for_report: dict[str, Answered] = {}
        for name, images in attacks.items():
            attacked = self._run(detector, images, name)
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
        )

    def _clean(
        self, detector: Detector, clean: ImageSource, report_clean: ImageSource | None
    ) -> tuple[Answered, Answered, int]:
        """The clean images that do not report, those that do, and how many do not count."""
        answered = self._run(detector, clean, "clean")
        if report_clean is None:
            reporting = answered.among(draw(answered.sources, self.report_fraction, self.seed))
            return answered.only(~reporting), answered.only(reporting), len(clean) - len(answered.images)
        report = self._run(detector, report_clean, "report")
        shared = set(answered.sources) & set(report.sources)
        if shared:
            raise InputError(f"report images: expected other images than the threshold's, found {len(shared)} in both")
        counted = len(answered.images) + len(report.images)
        return answered, report, len(clean) + len(report_clean) - counted

    def _run(self, detector: Detector, images: ImageSource, name: str) -> Answered:
        """Runs the members over the images, and leaves one of each source."""
        if images.labels is not None:
            check_labels(images.labels, len(images), detector.bundle.class_count, f"{name}: labels")
        kept = scan(detector, images, _logits, name=name, unfinished=self._unfinished(detector, images, name))
        sources = self.sources.of(images, kept["pixels"])
        logits = kept["logits"]
        answered = Answered(
            images=Selection(source=images, rows=np.arange(len(images))),
            logits=logits,
            probabilities=np.concatenate([outputs.probabilities for outputs in in_blocks(logits)]),
            sources=sources,
        )
        single = one_of_each(sources, self.seed)
        return answered if single.all() else answered.only(single)

    def _unfinished(self, detector: Detector, images: ImageSource, name: str) -> Unfinished | None:
        """Where the answers of one set are kept until the calibration is written."""
        if self.work is None or len(images) <= PART:
            return None
        told = {"members": detector.bundle.members_digest, "path": str(detector.execution_path)}
        return replace(self.work, told={**self.work.told, **told}).of(name)


def _logits(logits: NDArray[np.float32]) -> Kept:
    """All of them."""
    return {"logits": logits}
