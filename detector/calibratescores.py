"""Calibrating on scores alone, where the images are gone: a threshold, and what can honestly be said of it.

The scores have to tell which members gave them, and on which execution path, as the score log of
`ledgate serve` does. There are no images, and so no accuracy, no attacks, no temperature and no probes:
without probes the calibration holds on that very path only. Nor can anybody see whether the scores are
of clean images. An attacker who sends images with low scores lowers the threshold, and so who
calibrates has to vouch for them; that is recorded.
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
from detector.probes import LOGIT_TOLERANCE, TOLERANCE, Probes
from detector.provenance import provenance
from detector.rates import Rate
from detector.scorefile import Origin, Scores, holds_scores
from detector.scores import DEFAULT_SCORE, score_named
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
    score: str = DEFAULT_SCORE,
    report_fraction: float = 0.5,
    seed: int = 0,
    device: str = "auto",
    notes: Mapping[str, Any] | None = None,
) -> Calibration:
    """Calibrates a bundle on scores that it gave, and writes the calibration into it.

    Args:
        bundle: The bundle's folder; a calibration it has is replaced.
        path: The scores, see `detector.scorefile`; assumed to be of clean images.
        target: One that needs no attacked images.
        score: Name of the score; not one that is fitted, since a fit needs images.
        report_fraction: Share of the scores that report.
        seed: Of that split.
        device: Where the members run, and have run.
        notes: More to record in the calibration's provenance, as JSON.

    Returns:
        The calibration as written; its provenance says under `assumed` what it rests on.

    Raises:
        InputError: A file that does not tell bundle and path, or scores of other ones.
        CalibrationError: A target that needs images, or too few scores for it.
    """
    inner = target.target if isinstance(target, PerClass) else target
    if not isinstance(inner, TargetFpr | MeanFpr | Explicit):
        raise CalibrationError(f"{target}: expected attacked images, found scores alone")
    if score_named(score).needs_fit:
        raise CalibrationError(f"{score}: expected images to fit it on, found scores alone")
    check_draw(report_fraction, seed, "report")
    detector = Detector(Bundle.open(bundle, calibrated=False), device=device)
    scores = _told(path, detector, score)
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
        provenance=provenance(**{**(notes or {}), "assumed": WARNING}),
        clean_scores=tuple(behind[0][order].tolist()),
        clean_classes=None if threshold.by_class is None else tuple(behind[1][order].tolist()),
    )
    return detector.bundle.save_calibration(calibration, _no_probes(detector.bundle))


def _told(path: Path, detector: Detector, score: str) -> Scores:
    """Scores that tell that these members gave them on this path."""
    if not path.is_dir() and not holds_scores(path):
        raise InputError(f"{path}: expected scores alone, as .jsonl or .npz, found another file")
    scores = Scores.load(path, Origin(bundle=detector.bundle.digest, score=score))
    if not scores.told or scores.path is None:
        raise InputError(
            f"{path}: expected scores that tell their bundle, score and execution path, as a score log does, found "
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
