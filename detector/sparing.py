"""A threshold that spares honest images after mild changes: noise, blur, darkness, compression, a turn.

A promise about clean images says nothing of those, and a score that notices whatever is unusual flags many of them. A
fit that has seen changed images mends it only in part (`docs/scores.md`). But strong attacks lie far beyond them, so
that the threshold can be lowered until few are flagged, and still finds most attacks. The promise about clean images is
kept: of those, fewer are flagged than before.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.errors import SettingError
from detector.scores.score import Score
from detector.targets import MeanFpr, Target, TargetFpr
from detector.threshold import Threshold


def sparing_target(target: Target, rate: float, kinds: int) -> TargetFpr | MeanFpr:
    """What the threshold is to achieve for each kind of change, as the target is to for clean images.

    Args:
        target: That of clean images.
        rate: Largest share of the images after each change that is flagged, between 0 and 1.
        kinds: How many changes there are. A delta is shared out among them (Bonferroni), so that the
            confidence is for all of them together.

    Raises:
        InputError: A target that a lower threshold could break, or a rate out of range.
    """
    if isinstance(target, TargetFpr):
        return replace(target, rate=rate, delta=target.delta / kinds)
    if isinstance(target, MeanFpr):
        return replace(target, rate=rate)
    raise SettingError(f"changed FPR: expected with TargetFpr or MeanFpr for all classes, found with {target}")


def spare(
    threshold: Threshold,
    target: TargetFpr | MeanFpr,
    score: Score,
    changed: Iterable[tuple[str, list[NDArray[np.float32]]]],
) -> Threshold:
    """The threshold, lowered as far as each kind of changed images takes.

    Args:
        threshold: That of clean images, one for all classes.
        target: What it is to achieve for each kind, see `sparing_target`.
        score: Ready to measure.
        changed: Each kind's name, and the members' logits in batches, see `detector.shifts.changed_logits`.

    Raises:
        CalibrationError: Too few images; names the number it takes.
    """
    assert threshold.overall is not None
    limits = [target.threshold(np.concatenate([score.of(part) for part in parts]), []) for _, parts in changed]
    return Threshold(overall=min([threshold.overall, *limits]))
