"""Calibrating on scores alone, where the images are gone: a threshold, and what can honestly be said of it.

The scores have to tell which members gave them, and on which execution path, as the score log of
`ledgate serve` does. There are no images, and so no accuracy, no attacks, no temperature and no probes:
without probes the calibration holds on that very path only. Nor can anybody see whether the scores are
of clean images. An attacker who sends images with low scores lowers the threshold, and so who
calibrates has to vouch for them; that is recorded.

A score that is fitted keeps its fit: that of the calibration that the bundle has, and that the scores name as theirs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.bundle import Bundle
from detector.calibration import Calibration, ProbesFile
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.parts import check_draw, draw
from detector.precision import Precision
from detector.probes import LOGIT_TOLERANCE, TOLERANCE, Probes
from detector.provenance import provenance
from detector.rates import Rate
from detector.scorefile import Origin, Scores, holds_scores
from detector.scores import DEFAULT_SCORE, SCORES, score_named
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr
from detector.threshold import Threshold

WARNING: Final = (
    "calibrated on scores alone that were assumed to be of clean images: live traffic may hold attacks, and whoever "
    "sends low scores on purpose lowers the threshold; repeated images count as if they were independent"
)


def calibrate_scores(
    bundle: Path | str,
    path: Path,
    *,
    target: Target,
    score: str | None = None,
    report_fraction: float = 0.5,
    seed: int = 0,
    device: str = "auto",
    precision: str = Precision.FLOAT32,
    notes: Mapping[str, Any] | None = None,
) -> Calibration:
    """Calibrates a bundle on scores that it gave, and writes the calibration into it.

    Args:
        bundle: The bundle's folder; a calibration it has is replaced.
        path: The scores, see `detector.scorefile`; assumed to be of clean images.
        target: One that needs no attacked images.
        score: Name of the score. One that is fitted takes its fit from the bundle's calibration, since a fit needs
            images. By default the score of the bundle's calibration; without one, log diversity.
        report_fraction: Share of the scores that report.
        seed: Of that split.
        device: Where the members run, and have run.
        precision: What they compute in, and have computed in.
        notes: More to record in the calibration's provenance, as JSON.

    Returns:
        The calibration as written; its provenance says under `assumed` what it rests on, and `fit_from` whose
        fit it kept.

    Raises:
        InputError: A file that does not tell bundle and path, or scores of other ones; of a score that is fitted,
            scores of another calibration than the bundle's.
        CalibrationError: A target that needs images, too few scores for it, or a fit that is not there.
    """
    inner = target.target if isinstance(target, PerClass) else target
    if not isinstance(inner, TargetFpr | MeanFpr | Explicit):
        raise CalibrationError(f"{target}: expected attacked images, found scores alone")
    before = _before(bundle, score)
    score = score or (DEFAULT_SCORE if before is None else before.score)
    kept = before if SCORES[score].needs_fit else None
    check_draw(report_fraction, seed, "report")
    detector = Detector(Bundle.open(bundle, calibrated=False), device=device, precision=precision)
    scores = _told(path, detector, score, kept)
    here = np.zeros(len(scores), dtype=np.bool_)
    here[np.array(list(draw(range(len(scores)), report_fraction, seed)), dtype=np.int64)] = True
    classes = np.zeros(len(scores), dtype=np.int64) if scores.classes is None else scores.classes
    if isinstance(target, PerClass) and scores.classes is None:
        raise InputError(f"{path}: expected the predicted class of each score for {target}, found none")
    behind = (scores.values[~here], classes[~here])
    threshold = Threshold.choose(target, behind, {}, detector.bundle.labels)
    order = np.argsort(behind[0], kind="stable")
    calibration = Calibration(
        score=score,
        fitted=None if kept is None else kept.fitted,
        fit_from=None if kept is None else kept.digest,
        threshold=threshold.overall,
        thresholds=threshold.by_class,
        target=target,
        false_positives=Rate.of(threshold.flags(scores.values[here], classes[here])),
        accuracy=None,
        attacks=(),
        members_digest=detector.bundle.members_digest,
        execution_path=detector.execution_path,
        probes=ProbesFile(sha256="", tolerance=TOLERANCE, logit_tolerance=LOGIT_TOLERANCE),
        report_fraction=report_fraction,
        seed=seed,
        provenance=provenance(**{**(notes or {}), "assumed": WARNING + _lost(before)}),
        clean_scores=tuple(behind[0][order].tolist()),
        clean_classes=None if threshold.by_class is None else tuple(behind[1][order].tolist()),
    )
    return detector.bundle.save_calibration(calibration, _no_probes(detector.bundle))


def _before(bundle: Path | str, score: str | None) -> Calibration | None:
    """The calibration that the bundle has, where it names the score or has the fit; else None."""
    if score is not None and not score_named(score).needs_fit:
        return None
    found = Bundle.open(bundle).calibration
    if score is not None and (found is None or found.score != score):
        other = "none" if found is None else f"one of {found.score}"
        raise CalibrationError(
            f"{score}: expected images to fit it on, or a calibration of it in the bundle whose fit is kept, found "
            f"scores alone and {other}"
        )
    return found


def _lost(before: Calibration | None) -> str:
    """What else the bundle's calibration promised, and scores alone cannot."""
    if before is None or before.changed_fpr is None:
        return ""
    return f"; the promise about mild changes (--changed-fpr {before.changed_fpr:g}) is gone, since it takes images"


def _told(path: Path, detector: Detector, score: str, kept: Calibration | None) -> Scores:
    """Scores that tell that these members gave them on this path, with the fit that is kept."""
    if not path.is_dir() and not holds_scores(path):
        raise InputError(f"{path}: expected scores alone, as .jsonl or .npz, found another file")
    fit = None if kept is None else kept.digest
    scores = Scores.load(path, Origin(bundle=detector.bundle.digest, score=score, calibration=fit))
    if not scores.told or scores.path is None:
        raise InputError(
            f"{path}: expected scores that tell their bundle, score and execution path"
            f"{'' if kept is None else ', and their calibration'}, as a score log does, found "
            "some that do not: a threshold belongs to members and arithmetic, and nothing shows which these are of"
        )
    if scores.path != str(detector.execution_path):
        raise InputError(
            f"{path}: expected scores of {detector.execution_path}, where this device runs, found {scores.path}; there "
            "are no images to compare the two with"
        )
    return scores


def _no_probes(bundle: Bundle) -> Probes:
    """Probes without an image."""
    return Probes(
        images=np.empty((0, *bundle.input.shape), dtype=np.float32),
        logits=np.empty((0, bundle.member_count, bundle.class_count), dtype=np.float32),
        scores=np.empty(0),
    )
