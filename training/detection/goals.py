"""What was to be reached, run by run, and whether it was: by one score, which no image of these pages chose."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.evidence import WORST_CASE, AttackEvidence
from detector.markdown import table
from training.detection.content import Found
from training.detection.figures import Figures
from training.detection.tables import NONE, cell, name
from training.robustness.plan import EASY

# The score that docs/scores.md recommends, chosen on validation images of other runs.
JUDGED: Final = "mahalanobis"
AREA: Final = 0.95
FLAGGED: Final = 0.1
AWARE: Final = 0.7
_DESIGNS: Final = "[docs/scores.md](../docs/scores.md#what-was-missed-and-what-was-tried)"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal, and how a run stands to it.

    Attributes:
        what: As a phrase.
        reached: Whether it was; None where it could not be measured, or was not set.
        found: The figure, or why there is none.
        then: What to try next where it is missed.
    """

    what: str
    reached: bool | None
    found: str
    then: str

    def __str__(self) -> str:
        """For a table: bold where missed."""
        if self.reached is None:
            return self.found
        return f"reached: {self.found}" if self.reached else f"**missed**: {self.found}"


def goals(run: Found, peers: Sequence[Figures]) -> tuple[Goal, ...]:
    """All of them, of one run.

    Args:
        run: What was measured.
        peers: Other detectors on the same images.
    """
    judged = _judged(run)
    return (*_areas(judged), _ahead(judged, peers), _spared(judged), _aware(run, judged))


def goals_table(runs: Sequence[Found], heads: Sequence[str], peers: Sequence[Sequence[Figures]]) -> str:
    """The goals of an experiment's runs side by side, and below it what to try where one was missed.

    Args:
        runs: Of one experiment.
        heads: What they are called.
        peers: Other detectors on each run's images.
    """
    every = [goals(run, others) for run, others in zip(runs, peers, strict=True)]
    rows = [["goal", *heads], *([row[0].what, *map(str, row)] for row in zip(*every, strict=True))]
    missed = dict.fromkeys(goal.then for found in every for goal in found if goal.reached is False)
    return "\n".join([table(rows), *(["", *(f"- {then}" for then in missed)] if missed else [])])


def attack_by_attack(runs: Sequence[Found], heads: Sequence[str], peers: Sequence[Sequence[Figures]]) -> str:
    """Under each attack ours beside the best of the detectors that were shown no image of it; bold where ours loses."""
    rows = [["AUC", *(f"{head}, {what}" for head in heads for what in (JUDGED, "best other, not shown it"))]]
    for method in (view.name for view in runs[0].figures[0].attacks):
        row = [name(method)]
        for run, others in zip(runs, peers, strict=True):
            own = _judged(run).of(method).auc
            best = max((other for other in others if method not in other.seen),
                       key=lambda other: other.of(method).auc.value, default=None)  # fmt: skip
            row += [cell(own, [] if best is None else [best.of(method).auc]),
                    NONE if best is None else f"{best.detector} {best.of(method).auc}"]  # fmt: skip
        rows.append(row)
    return table(rows)


def mean_area(figures: Figures, methods: Sequence[str], *, successful: bool = False) -> float:
    """The mean AUC under some attacks; those without a successful image have none."""
    views = [figures.of(method) for method in methods]
    areas = [view.auc_successful if successful else view.auc for view in views]
    return float(np.mean([area.value for area in areas if area is not None]))


def _areas(judged: Figures) -> Iterator[Goal]:
    """The mean over the attacks, both countings."""
    methods = [view.name for view in _attacks(judged)]
    for successful, whom in ((False, "all attacked"), (True, "successful only")):
        mean = mean_area(judged, methods, successful=successful)
        yield Goal(
            what=f"mean AUC over the attacks at least {AREA:g}, {whom}",
            reached=mean >= AREA,
            found=f"{mean:.3f}",
            then="Mean AUC: a second score that has to pass as well, less of what all classes share, and more runs of "
            f"the members, for views of the image, were tried since; {_DESIGNS} has what they gain and lose.",
        )


def _ahead(judged: Figures, peers: Sequence[Figures]) -> Goal:
    """Ours against each other detector, over the attacks that it was shown no image of."""
    unseen = {peer.detector: [each.name for each in _attacks(judged) if each.name not in peer.seen] for peer in peers}
    means = {peer.detector: (mean_area(judged, unseen[peer.detector]), mean_area(peer, unseen[peer.detector]))
             for peer in peers}  # fmt: skip
    behind = [detector for detector, (own, other) in means.items() if other >= own]
    nearest = min(means, key=lambda detector: means[detector][0] - means[detector][1], default="")
    said = [f"{each} {means[each][1]:.3f} against {means[each][0]:.3f}" for each in behind or [nearest] if each]
    return Goal(
        what="mean AUC above that of every other detector, over the attacks that it was shown no image of",
        reached=not behind if peers else None,
        found=f"{'' if behind else 'the nearest is '}{'; '.join(said)}" if peers else "no other detector was run",
        then="Ahead of others: less of what all classes share, as relative Mahalanobis has it, was tried since, over "
        "logits; [docs/scores.md](../docs/scores.md#less-of-what-all-classes-share) has what it gains.",
    )


def _spared(judged: Figures) -> Goal:
    """Honest images that are mildly changed, the worst of the changes."""
    over = [seen for seen in judged.changed if seen.flagged.rate > FLAGGED]
    most = max(judged.changed, key=lambda seen: seen.flagged.rate)
    return Goal(
        what=f"at most {100 * FLAGGED:g} % flagged after each mild change, at the threshold for 5 % of clean images",
        reached=not over,
        found=", ".join(f"{seen.name} {100 * seen.flagged.rate:.1f} %" for seen in over or [most]),
        then="Mild changes: `ledgate calibrate --changed-fpr 0.1` lowers the threshold until one of each kind is "
        "spared (of the turns that by 10 degrees), and fewer attacks are found; the tables of "
        "[docs/scores.md](../docs/scores.md) have both thresholds.",
    )


def _aware(run: Found, judged: Figures) -> Goal:
    """Whoever aims at it. An area alone would not do: he stops at the threshold, and all may lie just above it."""
    against = next(each for each in judged.aimed if each.name == JUDGED)
    passed = next(each for each in run.aimed if each.score == JUDGED).unnoticed
    found = f"AUC {against.auc.value:.3f}, wrong and not flagged {100 * passed.rate:.1f} %"
    return Goal(
        what=f"AUC at least {AWARE:g} against an attacker who aims at it, and at most {100 * (1 - AWARE):.0f} % of his "
        "images wrong and not flagged",
        reached=None if run.dataset in EASY else against.auc.value >= AWARE and passed.rate <= 1 - AWARE,
        found=f"no goal was set: {found}" if run.dataset in EASY else found,
        then="Aimed at: two scores that must both pass, and noise he does not know, were tried since and do not hold "
        f"him, see {_DESIGNS}; left to try are members trained against attacks.",
    )


def _judged(run: Found) -> Figures:
    """Of the score that goals are about."""
    return next(each for each in run.figures if each.detector == JUDGED)


def _attacks(judged: Figures) -> list[AttackEvidence]:
    """The attacks themselves, without the worst case over them."""
    return [view for view in judged.attacks if view.name != WORST_CASE]
