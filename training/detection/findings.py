"""What an experiment's figures say, in sentences: where log diversity wins, and where it loses."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from detector.evidence import WORST_CASE, AttackEvidence
from detector.rates import Rate
from training.detection.choose import LEFT
from training.detection.content import Found
from training.detection.tables import baseline_of, log_diversity_of, name

_CHANCE: Final = 0.5
# Validation images of which a share of 1 % can be told from a few.
_ENOUGH: Final = 100


def findings(runs: Sequence[Found], heads: Sequence[str]) -> str:
    """A list in Markdown.

    Args:
        runs: Of one experiment.
        heads: What they are called.
    """
    return "\n".join(
        f"- {sentence}" for run, head in zip(runs, heads, strict=True) for sentence in _of(run, head, runs)
    )


def _of(run: Found, head: str, runs: Sequence[Found]) -> Iterator[str]:
    """About one run, all attacked images counted."""
    baseline = baseline_of(run, runs)
    if baseline is not None:
        yield _beside(run, head, baseline)
    views = log_diversity_of(run).attacks
    blind = _names(view for view in views if view.auc.high < _CHANCE)
    unsure = _names(view for view in views if view.auc.low <= _CHANCE <= view.auc.high)
    if blind:
        yield (
            f"{head}: log diversity takes attacked images for **more honest than clean ones**, an AUC below {_CHANCE} "
            f"with its whole interval, under {blind}."
        )
    if unsure:
        yield f"{head}: log diversity is not known to be better than chance under {unsure}."
    if not blind and not unsure:
        yield f"{head}: log diversity tells every attack from clean images better than chance, the {WORST_CASE} too."
    firm = min(run.aimed, key=lambda each: each.unnoticed.rate)
    yield (
        f"{head}: an attacker who knows the score gets {firm.unnoticed} of {firm.unnoticed.n:,} images wrong and not "
        f"flagged by it, at {firm.score}, and **no less at any other score** of ours."
    )


def few_images(runs: Sequence[Found], heads: Sequence[str]) -> str:
    """What follows from strengths that were chosen on few validation images; nothing where all were chosen on more."""
    attacks = [attack for attack in runs[0].attacks if attack.validation.n < _ENOUGH]
    if not attacks:
        return ""
    count = min(attack.validation.n for attack in attacks)
    left = [
        f"{name(attack.method)} {100 * attack.right.rate:.1f} % ({head})"
        for run, head in zip(runs, heads, strict=True) for attack in run.attacks
        if attack.validation.n < _ENOUGH and attack.right.rate > LEFT
    ]  # fmt: skip
    return (
        f"The strengths of {', '.join(name(attack.method) for attack in attacks)} were chosen on {count} validation "
        f"images of each run: none right of {count} only says that, with confidence 95 %, at most "
        f"{100 * Rate.of(np.zeros(count)).high:.0f} % are. Of test images "
        f"{', '.join(left) or f'no more than {100 * LEFT:g} %'} are left right by them. Where images are left right, "
        "those that the attack did not change count against a detector among all attacked images, and not among the "
        "successful ones."
    )


def _beside(run: Found, head: str, baseline: Found) -> str:
    """A regularised ensemble beside the baseline."""
    pairs = list(zip(log_diversity_of(run).attacks, log_diversity_of(baseline).attacks, strict=True))
    better = _names(own for own, other in pairs if own.auc.low > other.auc.high)
    worse = _names(own for own, other in pairs if own.auc.high < other.auc.low)
    return (
        f"{head} beside our baseline: the AUC of log diversity is higher under {better or 'no attack'}, and "
        f"{f'**lower under {worse}**' if worse else 'lower under none'}; under the rest their intervals overlap."
    )


def _names(views: Iterable[AttackEvidence]) -> str:
    """Attacks for a sentence; nothing where there are none."""
    return ", ".join(f"the {WORST_CASE}" if view.name == WORST_CASE else name(view.name) for view in views)
