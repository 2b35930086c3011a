"""How a detector fares on a run's images: the figures of the page, from its scores."""

from collections.abc import Mapping

import numpy as np

from detector.document import Record
from detector.errors import InputError
from detector.evidence import WORST_CASE, AttackEvidence, Judged, Seen, Views
from detector.imageset import ImageSet
from detector.parts import Source
from detector.prediction import Floats
from detector.rates import Auc, Rate
from detector.threshold import Threshold
from training.detection.material import Answers, Material
from training.detection.subject import sources_of
from training.robustness.gate import TARGET


class Figures(Record):
    """A detector's figures. Its score is oriented as ours are, lower is more suspicious.

    Attributes:
        detector: Its name.
        fitted_on: What it was fitted on, as a phrase.
        seen: The methods of the attacks that it was shown images of.
        threshold: Below which it flags, chosen on clean calibration images for at most 5 % of clean ones.
        clean: Clean test images that it flags.
        attacks: Each attack, by its method; last the worst case, over the images that every attack was run on.
        aimed: Each attacker who knows one of our scores, by that score.
        changed: Clean test images after each mild change.
        strange: Images of none of the classes, by their kind.
    """

    detector: str
    fitted_on: str
    seen: tuple[str, ...] = ()
    threshold: float
    clean: Rate
    attacks: tuple[AttackEvidence, ...]
    aimed: tuple[AttackEvidence, ...]
    changed: tuple[Seen, ...]
    strange: tuple[Seen, ...]

    def of(self, attack: str) -> AttackEvidence:
        """The figures under one attack, or in the worst case."""
        return next(each for each in self.attacks if each.name == attack)


def figures(
    detector: str, scores: Answers[Floats], material: Material, *, fitted_on: str, seen: tuple[str, ...] = ()
) -> Figures:
    """A detector's figures.

    Args:
        detector: Its name.
        scores: (n,) of each set of images; lower is more suspicious, infinite is legal, NaN is not.
        material: The images.
        fitted_on: What it was fitted on.
        seen: The methods of the attacks that it was shown images of.

    Raises:
        CalibrationError: Too few clean images for a threshold.
        InputError: A score that is not a number.
    """
    if np.isnan(scores.behind).any():
        raise InputError("scores: expected numbers, found nan")
    threshold = Threshold(overall=TARGET.threshold(scores.behind, []))
    attacked = _judged(threshold, scores.attacked, material.attacked)
    assert threshold.overall is not None
    return Figures(
        detector=detector,
        fitted_on=fitted_on,
        seen=seen,
        threshold=threshold.overall,
        clean=Rate.of(_flags(threshold, scores.clean)),
        attacks=(*_each(attacked, scores.clean), _worst_case(attacked, scores.clean)),
        aimed=tuple(_each(_judged(threshold, scores.aimed, material.aimed), scores.clean)),
        changed=_seen(threshold, scores.changed, scores.clean),
        strange=_seen(threshold, scores.strange, scores.clean),
    )


def _flags(threshold: Threshold, scores: Floats) -> np.ndarray:
    """Which images are flagged; the threshold is the same for every class."""
    return threshold.flags(scores, np.zeros(len(scores), dtype=np.int64))


def _seen(threshold: Threshold, scores: Mapping[str, Floats], clean: Floats) -> tuple[Seen, ...]:
    """Sets of images that nobody attacked."""
    return tuple(
        Seen(name=name, flagged=Rate.of(_flags(threshold, found)), auc=Auc.of(clean, found))
        for name, found in scores.items()
    )


def _judged(threshold: Threshold, scores: Mapping[str, Floats], images: Mapping[str, ImageSet]) -> dict[str, Judged]:
    """Scores of attacked images, with what is known about these."""
    return {
        name: Judged(
            scores=found,
            flags=_flags(threshold, found),
            success=images[name].success,
            sources=sources_of(images[name]),
        )
        for name, found in scores.items()
    }


def _each(attacks: Mapping[str, Judged], clean: Floats) -> list[AttackEvidence]:
    """Attacks one by one."""
    return [Views.of({name: judged}).attacks(clean)[0] for name, judged in attacks.items()]


def _worst_case(attacks: Mapping[str, Judged], clean: Floats) -> AttackEvidence:
    """An image counts as detected only if it is under every attack; of the images that every attack was run on."""
    common = set.intersection(*(set(judged.sources) for judged in attacks.values()))
    views = Views.of({name: _only(judged, common) for name, judged in attacks.items()})
    return next(view for view in views.attacks(clean) if view.name == WORST_CASE)


def _only(judged: Judged, sources: set[Source]) -> Judged:
    """Those that come from some source images."""
    rows = [row for row, source in enumerate(judged.sources) if source in sources]
    return Judged(
        scores=judged.scores[rows],
        flags=judged.flags[rows],
        success=None if judged.success is None else judged.success[rows],
        sources=[judged.sources[row] for row in rows],
    )
