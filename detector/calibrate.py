"""Calibrating a bundle: choose a threshold on one part of the images, report it on another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.bundle import Bundle
from detector.calibration import AttackEvidence, Calibration, ProbesFile
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.parts import Source, Sources
from detector.prediction import Floats, Ints, check_labels, mean_prediction
from detector.probes import TOLERANCE, Probes
from detector.provenance import provenance
from detector.rates import Auc, Rate
from detector.scores import DEFAULT_SCORE, SCORES
from detector.targets import Target


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Images with what the ensemble made of them: logits (N, K, L), classes (N,), score (N,)."""

    images: ImageSet
    logits: NDArray[np.float32]
    classes: Ints
    score: Floats

    @property
    def right(self) -> NDArray[np.bool_] | None:
        """Which are classified right: (N,) bool; None without labels."""
        return None if self.images.labels is None else self.classes == self.images.labels

    def only(self, mask: NDArray[np.bool_]) -> "Scored":
        """The images of a mask (N,)."""
        return Scored(
            images=self.images.only(mask),
            logits=self.logits[mask],
            classes=self.classes[mask],
            score=self.score[mask],
        )


def calibrate(
    bundle: Path | str,
    *,
    clean: ImageSet,
    adversarial: Mapping[str, ImageSet] | Sequence[ImageSet] = (),
    target: Target,
    report_clean: ImageSet | None = None,
    report_fraction: float = 0.5,
    seed: int = 0,
    score: str = DEFAULT_SCORE,
    device: str = "auto",
    report: Path | str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Calibration:
    """Calibrates a bundle and writes the calibration into it.

    The threshold is chosen on one part of the clean images and reported on another; the parts are
    disjoint by source image, and an attacked image belongs to the part of its source.

    Args:
        bundle: The bundle's folder; a calibration it has is replaced.
        clean: Clean images, drawn like those the service will see, and not used in training.
        adversarial: Attacked images of each attack; a sequence is named by what the attack wrote
            into its file.
        target: `TargetFpr(0.05)`, `TargetTpr(0.9)` or `Explicit(-1.5)`.
        report_clean: Clean images to report on; then all of `clean` choose the threshold.
        report_fraction: Otherwise, the share of `clean` that reports.
        seed: Of that split.
        score: Name of the score to threshold.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`; the calibration holds for it.
        report: A folder for `report.md`, `roc.png` and `scores.png`.
        notes: More to record in the calibration's provenance, as JSON.

    Returns:
        The calibration as written.

    Raises:
        InputError: Images that do not fit the bundle, attacks of one name, or parts that overlap.
        CalibrationError: The target is out of reach with so few images; names the number it takes.
    """
    if score not in SCORES:
        raise InputError(f"score: expected one of {', '.join(SCORES)}, found {score}")
    if report is not None and Path(report).is_file():
        raise InputError(f"{report}: expected a folder for the report, found a file")
    attacks = _named(adversarial)
    whole = [clean] if report_clean is None else [clean, report_clean]
    sources = Sources(whole, attacks.items())
    detector = Detector(Bundle.open(bundle, calibrated=False), device=device)

    scored = _score(detector, clean, score, "clean")
    if report_clean is None:
        here = sources.among(clean, sources.draw(clean, report_fraction, seed))
        fitted, reported = scored.only(~here), scored.only(here)
    else:
        fitted, reported = scored, _score(detector, report_clean, score, "report")
    behind = set(sources.of(fitted.images))
    _refuse_overlap(behind & set(sources.of(reported.images)))
    for_threshold, for_report = _divide(detector, attacks, score, sources, behind)

    threshold = target.threshold(fitted.score, list(for_threshold.values()))
    calibration = Calibration(
        score=score,
        threshold=threshold,
        target=target,
        false_positives=Rate.of(reported.score < threshold),
        accuracy=None if reported.right is None else Rate.of(reported.right),
        attacks=tuple(_evidence(name, value, reported.score, threshold) for name, value in for_report.items()),
        members_digest=detector.bundle.members_digest,
        execution_path=detector.execution_path,
        probes=ProbesFile(sha256="", tolerance=TOLERANCE),
        report_fraction=report_fraction if report_clean is None else None,
        seed=seed,
        provenance=provenance(**(notes or {})),
        clean_scores=tuple(np.sort(fitted.score).tolist()),
    )
    probes = Probes.choose(fitted.images.images, fitted.logits, fitted.score, threshold)
    calibration = detector.bundle.save_calibration(calibration, probes)
    if report is not None:
        from detector.report import write_report  # matplotlib takes a second to import

        attacked = {name: value.score for name, value in for_report.items()}
        write_report(Path(report), detector.bundle, calibration, reported.score, attacked)
    return calibration


def _named(adversarial: Mapping[str, ImageSet] | Sequence[ImageSet]) -> dict[str, ImageSet]:
    """Attacked images by the attack's name."""
    if isinstance(adversarial, Mapping):
        return dict(adversarial)
    named: dict[str, ImageSet] = {}
    for position, images in enumerate(adversarial):
        name = images.attack or f"attack {position}"
        if name in named:
            raise InputError(f"adversarial images: expected one file for each attack, found two of '{name}'")
        named[name] = images
    return named


def _score(detector: Detector, images: ImageSet, score: str, name: str) -> Scored:
    """Runs the members over images and scores them; the label left out is the prediction."""
    checked = detector.bundle.input.check(images.images, name)
    if images.labels is not None:
        check_labels(images.labels, len(images), detector.bundle.class_count, f"{name}: labels")
    with tqdm(total=len(checked), desc=f"scoring {name}", unit=" images", disable=None, leave=False) as bar:
        parts = []
        for part in detector.runs(checked):
            parts.append(part)
            bar.update(len(part))
    logits = np.concatenate(parts)
    classes = mean_prediction(logits).argmax(axis=1)
    return Scored(images=images, logits=logits, classes=classes, score=SCORES[score](logits, classes))


def _divide(
    detector: Detector, attacks: Mapping[str, ImageSet], score: str, sources: Sources, behind: set[Source]
) -> tuple[dict[str, Floats], dict[str, Scored]]:
    """Each attack's scores whose sources are behind the threshold, and its other images, which report."""
    for_threshold: dict[str, Floats] = {}
    for_report: dict[str, Scored] = {}
    for name, images in attacks.items():
        scored = _score(detector, images, score, name)
        here = sources.among(images, behind)
        if here.all():
            raise InputError(
                f"{name}: expected images of the report part, found none; all sources choose the threshold"
            )
        for_report[name] = scored.only(~here)
        for_threshold[name] = scored.score[here]
    return for_threshold, for_report


def _refuse_overlap(shared: set[Source]) -> None:
    """What chose the threshold must not report it."""
    if shared:
        raise InputError(f"report images: expected other images than the threshold's, found {len(shared)} in both")


def _evidence(name: str, attacked: Scored, clean: Floats, threshold: float) -> AttackEvidence:
    """One attack against the report part's clean scores."""
    success = attacked.images.success
    successful = None if success is None or not success.any() else attacked.score[success]
    return AttackEvidence(
        name=name,
        auc=Auc.of(clean, attacked.score),
        flagged=Rate.of(attacked.score < threshold),
        auc_successful=None if successful is None else Auc.of(clean, successful),
        flagged_successful=None if successful is None else Rate.of(successful < threshold),
    )
