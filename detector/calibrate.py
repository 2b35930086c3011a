"""Calibrating a bundle: choose a threshold on one part of the images, report it on another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.bundle import Bundle
from detector.calibration import FILE as CALIBRATION
from detector.calibration import Calibration, ProbesFile
from detector.confidence import Confidence
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.evidence import Judged, ScoreEvidence, Views
from detector.honest import Honest
from detector.parts import Sources
from detector.precision import Precision
from detector.prediction import Floats
from detector.probes import LOGIT_TOLERANCE, TOLERANCE, Probes
from detector.provenance import provenance
from detector.rates import Rate
from detector.scores import DEFAULT_SCORE, SCORES, score_named
from detector.scores.score import Score
from detector.shifts import MILD, changed_logits
from detector.source import ImageSource
from detector.sparing import spare, sparing_target
from detector.split import Answered, Parts, Split, Work
from detector.targets import Target
from detector.threshold import Threshold
from detector.unfinished import folder_of


def calibrate(
    bundle: Path | str,
    *,
    clean: ImageSource,
    adversarial: Mapping[str, ImageSource] | Sequence[ImageSource] = (),
    target: Target,
    report_clean: ImageSource | None = None,
    report_fraction: float = 0.5,
    fit_fraction: float = 0.5,
    seed: int = 0,
    score: str = DEFAULT_SCORE,
    device: str = "auto",
    precision: str = Precision.FLOAT32,
    report: Path | str | None = None,
    notes: Mapping[str, Any] | None = None,
    resume: Mapping[str, str] | None = None,
    foreign: Mapping[str, ImageSource] | None = None,
    shifts: bool = False,
    changed_fpr: float | None = None,
) -> Calibration:
    """Calibrates a bundle and writes the calibration into it.

    The score is fitted, where there is something to fit, on one part of the clean images, the
    threshold chosen on a second, and both reported on a third. The parts are disjoint by source
    image, and an attacked image belongs to the part of its source; of several images of one source
    in a file, one counts. With labels, a temperature is fitted on the clean images that do not
    report (of many a sample, see `detector.split`): no promise about flags rests on it.

    Args:
        bundle: The bundle's folder; a calibration it has is replaced.
        clean: Clean images, drawn like those the service will see, and not used in training.
        adversarial: Attacked images of each attack; a sequence is named by what the attack wrote
            into its file.
        target: `TargetFpr(0.05)`, `MeanFpr(0.05)`, `TargetTpr(0.9)`, `Youden()` or `Explicit(-1.5)`;
            `PerClass` of one of them for a threshold by predicted class.
        report_clean: Clean images to report on; then all of `clean` choose the threshold.
        report_fraction: Otherwise, the share of `clean` that reports.
        fit_fraction: Share of the clean images that do not report, for a score that is fitted.
        seed: Of these draws.
        score: Name of the score to threshold, one of `detector.scores.SCORES`.
        device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`; the calibration holds for it.
        precision: What the members compute in, see `Detector.open`; the calibration holds for it.
        report: A folder for `report.html`, a page that needs nothing beside it and holds a few of the
            images; and for the same as `report.md`, `roc.png` and `scores.png`.
        notes: More to record in the calibration's provenance, as JSON.
        resume: SHA-256 of the content of each set of images, by `clean`, `report` and `attack NAME`: then the
            answers to many images are kept in the bundle's folder until the calibration is written, and a
            calibration on the same images that is begun again goes on behind them.
        foreign: Images of other kinds, by name, for which no class is right; only reported.
        shifts: Whether to report on mildly changed clean images too, see `detector.shifts`.
        changed_fpr: Largest share of the clean images of the threshold part that is flagged after each of the mild
            changes of `detector.shifts.MILD`, as the target is kept for clean ones; the threshold is lowered where it
            has to be. None lets the clean images choose alone.

    Returns:
        The calibration as written.

    Raises:
        InputError: Images that do not fit the bundle, attacks of one name, parts that overlap, or a target that
            makes no promise about clean images with `changed_fpr`.
        CalibrationError: The target is out of reach with so few images; names the number it takes.
    """
    chosen = score_named(score)
    sparing = None if changed_fpr is None else sparing_target(target, changed_fpr, len(MILD))
    if report is not None and Path(report).is_file():
        raise InputError(f"{report}: expected a folder for the report, found a file")
    attacks = _named(adversarial)
    detector = Detector(Bundle.open(bundle, calibrated=False), device=device, precision=precision)
    split = Split(
        sources=Sources([clean] if report_clean is None else [clean, report_clean], attacks.items()),
        report_fraction=report_fraction,
        fit_fraction=fit_fraction if chosen.needs_fit else None,
        seed=seed,
        work=None if resume is None else Work(folder=folder_of(Path(bundle) / CALIBRATION), digests=resume),
    )
    parts = split.parts(detector, clean, report_clean, attacks)
    behind = parts.threshold

    chosen = chosen if parts.fit is None else parts.fitted(chosen, [parts.fit])
    scores = behind.scores(chosen)
    attacked = {name: (value.scores(chosen), value.classes) for name, value in parts.attacks_threshold.items()}
    threshold = Threshold.choose(target, (scores, behind.classes), attacked, detector.bundle.labels)
    if sparing is not None:
        threshold = spare(threshold, sparing, chosen, changed_logits(detector, behind.images, MILD))
    order = np.argsort(scores, kind="stable")
    calibration = Calibration(
        score=score,
        fitted=chosen.fitted,
        threshold=threshold.overall,
        thresholds=threshold.by_class,
        target=target,
        changed_fpr=changed_fpr,
        **_evidence(chosen, threshold, parts),
        accuracy=None if parts.report.right is None else Rate.of(parts.report.right),
        confidence=_confidence(parts),
        members_digest=detector.bundle.members_digest,
        execution_path=detector.execution_path,
        probes=ProbesFile(sha256="", tolerance=TOLERANCE, logit_tolerance=LOGIT_TOLERANCE),
        report_fraction=report_fraction if report_clean is None else None,
        fit_fraction=split.fit_fraction,
        repeats=parts.repeats,
        seed=seed,
        provenance=provenance(**(notes or {})),
        clean_scores=tuple(scores[order].tolist()),
        clean_classes=None if threshold.by_class is None else tuple(behind.classes[order].tolist()),
    )
    if shifts or foreign:
        bare = replace(detector.bundle, calibration=calibration, probes=None)
        judge = Detector(bare, device=device, precision=precision)
        honest = Honest(detector=judge, clean=parts.report.scores(chosen))
        update = {
            "changed": honest.changed(parts.report.images) if shifts else (),
            "foreign": honest.foreign(foreign or {}),
        }
        calibration = calibration.model_copy(update=update)
    calibration = detector.bundle.save_calibration(calibration, _probes(detector, behind, scores, threshold))
    if split.work is not None:
        split.work.discard(detector)
    if report is not None:
        _report(Path(report), detector.bundle, calibration, parts)
    return calibration


def _probes(detector: Detector, images: Answered, scores: Floats, threshold: Threshold) -> Probes:
    """Some of the images as probes; the members run again on these few, since their logits were not kept."""
    shape = (len(scores), detector.bundle.member_count, detector.bundle.class_count)
    unknown = np.broadcast_to(np.float32(0), shape)  # takes no memory
    probes = Probes.choose(images.images.take, unknown, scores, threshold.limits(images.classes))
    return probes if not len(probes.images) else replace(probes, logits=detector.logits(probes.images))


def _report(folder: Path, bundle: Bundle, calibration: Calibration, parts: Parts) -> None:
    """Writes the report as a page, as text, and as plots by themselves."""
    from detector.page import page, scored  # these take a second to import
    from detector.report import write_report

    clean = scored.Scored.of(calibration.score_fitted, parts.report)
    attacks = {name: scored.Scored.of(calibration.score_fitted, one) for name, one in parts.attacks_report.items()}
    page.write_page(folder / page.FILE, bundle, calibration, clean, attacks)
    write_report(folder, bundle, calibration, clean.scores, {name: one.scores for name, one in attacks.items()})


def _named(adversarial: Mapping[str, ImageSource] | Sequence[ImageSource]) -> dict[str, ImageSource]:
    """Attacked images by the attack's name."""
    if isinstance(adversarial, Mapping):
        return dict(adversarial)
    named: dict[str, ImageSource] = {}
    for position, images in enumerate(adversarial):
        name = images.attack or f"attack {position}"
        if name in named:
            raise InputError(f"adversarial images: expected one file for each attack, found two of '{name}'")
        named[name] = images
    return named


def _confidence(parts: Parts) -> Confidence | None:
    """The temperature, fitted on every clean image that does not report; None without labels."""
    fit = [known for part in parts.unreported if (known := part.predicted) is not None]
    report = parts.report.predicted
    if report is None or len(fit) < len(parts.unreported):
        return None
    predictions, labels = (np.concatenate(column) for column in zip(*fit, strict=True))
    return Confidence.of((predictions, labels), report)


def _evidence(score: Score, threshold: Threshold, parts: Parts) -> dict[str, Any]:
    """What the report part says: the fields of the calibration that hold it."""
    clean = parts.report.scores(score)
    rows = _views(score, threshold, parts).attacks(clean) if parts.attacks_report else ()
    return {
        "false_positives": Rate.of(threshold.flags(clean, parts.report.classes)),
        "attacks": rows[: len(parts.attacks_report)],
        "views": rows[len(parts.attacks_report) :],
        "comparison": _comparison(score, threshold, parts) if parts.attacks_report else (),
    }


def _views(score: Score, threshold: Threshold, parts: Parts) -> Views:
    """The attacked images of the report part under a score."""
    judged = {}
    for name, attack in parts.attacks_report.items():
        scores = attack.scores(score)
        flags = threshold.flags(scores, attack.classes)
        judged[name] = Judged(scores=scores, flags=flags, success=attack.success, sources=attack.sources)
    return Views.of(judged)


def _comparison(score: Score, threshold: Threshold, parts: Parts) -> tuple[ScoreEvidence, ...]:
    """Every score on the same images; one that needs a fit gets it from clean images that do not report."""
    table = []
    for name in SCORES:
        try:
            other = score if name == score.name else parts.fitted(score_named(name), parts.unreported)
        except CalibrationError:  # too few images to fit it
            continue
        fitted = 0 if other.fitted is None else other.fitted.n
        table.append(_views(other, threshold, parts).score(name, fitted, parts.report.scores(other)))
    return tuple(table)
