"""Checking a calibration on today's images: is its promise still kept, and have the clean scores moved?

The two are different questions. Scores may move without a broken promise, and with many images the
smallest movement shows; so a movement is reported, and only a promise that is broken, with the
stated confidence, is an alarm.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.detector import Detector
from detector.document import Record
from detector.errors import CalibrationError, InputError, SettingError
from detector.evidence import Seen
from detector.keeping import Finding, Keeping
from detector.movement import Movement
from detector.precision import Precision
from detector.prediction import Floats, Ints, check_labels
from detector.rates import Auc, Rate
from detector.scan import Kept, judged, scan
from detector.scorefile import Origin, Scores
from detector.scores import SCORES
from detector.shifts import MILD, shift_evidence
from detector.source import ImageSource, Selection
from detector.targets import PerClass, TargetFpr, TargetTpr
from detector.unfinished import Unfinished, discard, folder_of

DELTA: Final = 0.05


class Check(Record):
    """What a check found.

    Attributes:
        finding: The worst about any promise.
        promised: Whether `keepings` are promises of the target. Where it makes none that today's
            images can break, false alarms are compared with the most that the calibration measured:
            the upper end of its 95 % interval.
        keepings: Each promise, or that comparison; with thresholds by class, one for each class. Where the
            calibration has a `changed_fpr`, and changed images were asked for, one for each mild change too.
        flagged: Share of today's images that is flagged, whatever was promised.
        then: Share of the clean images that was flagged when the calibration was made.
        movement: Of the clean scores.
        accuracy: Share of today's images classified right; None without labels.
        attacks: Attacked images of today.
        changed: Clean images of today after each mild change.
        foreign: Images of other kinds.
        live: Today's scores were taken from a service at work, and may hold attacks.
        repeats: Images that did not count, since another had the same source.
        skipped: Scores passed over, since they are of another bundle or score.
        dropped: Scores that the server could not write.
        score: Name of the score.
        bundle_digest: Of the bundle.
        calibration_digest: Of the calibration.
    """

    finding: Finding
    promised: bool
    keepings: tuple[Keeping, ...]
    flagged: Rate
    then: Rate
    movement: Movement
    accuracy: Rate | None
    attacks: tuple[Seen, ...]
    changed: tuple[Seen, ...]
    foreign: tuple[Seen, ...]
    live: bool
    repeats: int
    skipped: int
    dropped: int
    score: str
    bundle_digest: str
    calibration_digest: str

    @property
    def broken(self) -> bool:
        """Whether a promise is broken: an alarm."""
        return self.finding is Finding.BROKEN


def check(
    bundle: Path | str,
    *,
    clean: ImageSource | Scores,
    adversarial: Mapping[str, ImageSource] | None = None,
    foreign: Mapping[str, ImageSource] | None = None,
    shifts: bool = False,
    delta: float = DELTA,
    device: str = "auto",
    precision: str = Precision.FLOAT32,
    save_scores: Path | None = None,
    work: Mapping[str, Any] | None = None,
) -> Check:
    """Checks a bundle's calibration on today's images.

    Args:
        bundle: The bundle's folder.
        clean: Clean images of today, drawn like those the service sees, one of each source counting;
            or their scores alone.
        adversarial: Attacked images of today, by attack.
        foreign: Images of other kinds, by name, for which no class is right.
        shifts: Whether to flag mildly changed clean images too, see `detector.shifts`; a promise about them is
            tested.
        delta: Probability with which a promise that is kept is called broken, for all promises
            together; and with which scores that have not moved are said to have.
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.
        precision: What the members compute in, see `Detector.open`.
        save_scores: An `.npz` to write today's scores to; what is unfinished is kept beside it.
        work: What makes those scores what they are beside bundle and device, as JSON, so that
            unfinished work of other images is not gone on with.

    Returns:
        The findings. Only a broken promise is an alarm.

    Raises:
        InputError: Images or scores that do not fit.
        CalibrationError: The bundle has no calibration, or it does not hold on this device in this
            precision.
    """
    if not 0 < delta < 1:
        raise SettingError(f"delta: expected a number between 0 and 1, found {delta}")
    opened = Bundle.open(bundle)
    calibration = _calibration(opened)
    alone = isinstance(clean, Scores)
    if alone and shifts:
        raise InputError("shifts: expected images to change, found scores alone")
    needless = alone and not adversarial and not foreign
    detector = None if needless else Detector(opened, device=device, precision=precision)
    today = _Today(opened, calibration, detector, delta)
    if isinstance(clean, Scores):
        today.take_scores(clean)
    else:
        today.take_images(clean, save_scores, work or {})
    if save_scores is not None:
        today.scores.save(save_scores, origin_of(opened))
        discard(folder_of(save_scores))
    changed = today.changed() if shifts else {}
    keepings, attacks = today.keepings(adversarial or {}, {name: flags for name, (_, flags) in changed.items()})
    return Check(
        finding=min((one.finding for one in keepings), key=list(Finding).index),
        promised=_promises(calibration, bool(attacks)),
        keepings=keepings,
        flagged=Rate.of(today.flags),
        then=calibration.false_positives,
        movement=Movement.of(np.array(calibration.clean_scores), today.scores.values, delta),
        accuracy=today.accuracy,
        attacks=attacks,
        changed=tuple(seen for seen, _ in changed.values()),
        foreign=tuple(today.seen(name, images)[0] for name, images in (foreign or {}).items()),
        live=today.scores.live,
        repeats=today.repeats,
        skipped=today.scores.skipped,
        dropped=today.scores.dropped,
        score=calibration.score,
        bundle_digest=opened.digest,
        calibration_digest=calibration.digest,
    )


def origin_of(bundle: Bundle) -> Origin:
    """What scores of a calibrated bundle are measured with."""
    calibration = _calibration(bundle)
    fit = calibration.digest if SCORES[calibration.score].needs_fit else None
    return Origin(bundle=bundle.digest, score=calibration.score, calibration=fit)


class _Today:
    """Today's clean scores, and what is compared with them."""

    def __init__(self, bundle: Bundle, calibration: Calibration, detector: Detector | None, delta: float) -> None:
        self._bundle = bundle
        self._calibration = calibration
        self._detector = detector
        self._delta = delta
        self.repeats = 0
        self.accuracy: Rate | None = None
        self.scores: Scores
        self.classes: Ints
        self.flags: NDArray[np.bool_]
        self._images: Selection

    def take_scores(self, scores: Scores) -> None:
        """Scores alone."""
        if scores.classes is None and self._calibration.thresholds is not None:
            raise InputError(
                "scores: expected the predicted class of each, since each class has its own threshold, found none"
            )
        classes = np.zeros(len(scores), dtype=np.int64) if scores.classes is None else scores.classes
        outside = (classes < 0) | (classes >= self._bundle.class_count)
        if outside.any():
            raise InputError(f"scores: expected classes below {self._bundle.class_count}, found {classes[outside][0]}")
        self._take(scores, classes)

    def take_images(self, images: ImageSource, save_scores: Path | None, work: Mapping[str, Any]) -> None:
        """Images, one of each source counting."""
        assert self._detector is not None
        unfinished = None
        if save_scores is not None:
            told = {
                **work,
                "images": len(images),
                "bundle": self._bundle.digest,
                "calibration": self._calibration.digest,
                "path": str(self._detector.execution_path),
            }
            unfinished = Unfinished(folder_of(save_scores), told)
        kept = self._scan(images, "clean", unfinished)
        rows = _first_of_each(kept["pixels"] if images.source_index is None else images.source_index)
        self.repeats = len(images) - len(rows)
        self._images = Selection(source=images, rows=rows)
        classes = kept["classes"][rows]
        path = str(self._detector.execution_path)
        self._take(Scores(values=kept["scores"][rows], classes=classes, path=path, told=True), classes)
        if images.labels is not None:
            labels = check_labels(images.labels, len(images), self._bundle.class_count, "clean: labels")
            self.accuracy = Rate.of(classes == labels[rows])

    def _take(self, scores: Scores, classes: Ints) -> None:
        self.scores = scores
        self.classes = classes
        self.flags = self._calibration.flags(scores.values, classes)

    def keepings(
        self, adversarial: Mapping[str, ImageSource], changed: Mapping[str, NDArray[np.bool_]]
    ) -> tuple[tuple[Keeping, ...], tuple[Seen, ...]]:
        """What was promised beside what is found; and the attacked images."""
        found = {name: self.seen(name, images) for name, images in adversarial.items()}
        attacks = tuple(seen for seen, _ in found.values())
        target = self._calibration.target
        if isinstance(target, TargetTpr) and found:
            share = self._delta / len(found)
            missed = {name: ~flags for name, (_, flags) in found.items()}
            return tuple(
                Keeping.of(f"{name} missed", wrong, 1 - target.rate, share) for name, wrong in missed.items()
            ), attacks
        if isinstance(target, TargetFpr):
            return self._spared(target.rate, dict.fromkeys(changed, self._calibration.changed_fpr), changed), attacks
        if isinstance(target, PerClass) and isinstance(target.target, TargetFpr):
            return self._by_class(target.target.rate), attacks
        measured = {seen.name: seen.flagged.high for seen in self._calibration.changed}
        return self._spared(self._calibration.false_positives.high, measured, changed), attacks

    def _spared(
        self, rate: float, rates: Mapping[str, float | None], changed: Mapping[str, NDArray[np.bool_]]
    ) -> tuple[Keeping, ...]:
        """What bounds clean images, and what each mild change of them where it is bounded; all share delta."""
        bounds = [("clean flagged", self.flags, rate)]
        if self._calibration.changed_fpr is not None:
            bounds += [
                (f"after {name} flagged", changed[name], bound)
                for name in (shift.name for shift in MILD)
                if name in changed and (bound := rates.get(name)) is not None
            ]
        return tuple(Keeping.of(subject, wrong, bound, self._delta / len(bounds)) for subject, wrong, bound in bounds)

    def _by_class(self, rate: float) -> tuple[Keeping, ...]:
        """The promise to each predicted class that there are images of; delta is shared out among all classes."""
        share = self._delta / self._bundle.class_count
        return tuple(
            Keeping.of(f"{self._bundle.labels[label]} flagged", self.flags[self.classes == label], rate, share)
            for label in np.unique(self.classes).tolist()
        )

    def seen(self, name: str, images: ImageSource) -> tuple[Seen, NDArray[np.bool_]]:
        """Other images, and which of them are flagged."""
        kept = self._scan(images, name)
        return self._row(name, kept["scores"], kept["flags"]), kept["flags"]

    def changed(self) -> dict[str, tuple[Seen, NDArray[np.bool_]]]:
        """Clean images after each mild change, by its name, and which of them are flagged; one of each source."""
        assert self._detector is not None
        found = shift_evidence(self._detector, self._images)
        return {name: (self._row(name, scores, flags), flags) for name, (scores, flags) in found.items()}

    def _row(self, name: str, scores: Floats, flags: NDArray[np.bool_]) -> Seen:
        """Other images beside today's clean ones, and what the calibration found of their name."""
        calibration = self._calibration
        known = {one.name: one.flagged for one in calibration.attacks}
        known |= {one.name: one.flagged for one in (*calibration.changed, *calibration.foreign)}
        auc = None if self.scores.live else Auc.of(self.scores.values, scores)
        return Seen(name=name, flagged=Rate.of(flags), auc=auc, then=known.get(name))

    def _scan(self, images: ImageSource, name: str, unfinished: Unfinished | None = None) -> Kept:
        assert self._detector is not None
        return scan(self._detector, images, partial(judged, self._detector), name=name, unfinished=unfinished)


def _calibration(bundle: Bundle) -> Calibration:
    """The bundle's calibration, which it must have."""
    if bundle.calibration is None:
        raise CalibrationError(
            f"{bundle.path}: expected a calibrated bundle, found one without; ledgate calibrate makes one"
        )
    return bundle.calibration


def _promises(calibration: Calibration, attacks: bool) -> bool:
    """Whether today's images can break what the target promises."""
    target = calibration.target
    inner = target.target if isinstance(target, PerClass) else target
    return isinstance(inner, TargetFpr) or (isinstance(target, TargetTpr) and attacks)


def _first_of_each(sources: NDArray[Any]) -> Ints:
    """The first row of each source, in order."""
    _, rows = np.unique(sources, axis=0, return_index=True)
    return np.sort(rows)
