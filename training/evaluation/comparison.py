"""Ours beside the paper's: a figure with its interval, how far it is from what was printed, and whether it may be."""

from collections.abc import Sequence
from dataclasses import replace

from detector.rates import Rate
from training.config import TrainConfig
from training.evaluation.estimate import Estimate
from training.paper import deviations


def compared(rates: Sequence[Rate], paper: float | None, *, form: str, more_is_worse: bool) -> str:
    """A share in % over seeds with its interval, and after a semicolon how far it is from the paper's, if there is one.

    Args:
        rates: One for each seed.
        paper: What the paper printed, in %.
        form: Of each number, such as `.2f`.
        more_is_worse: As with errors; not as with accuracies.
    """
    ours = Estimate.of_rates(rates)
    text = ours.text(form)
    return text if paper is None else f"{text}; {difference(ours.value - paper, form, more_is_worse=more_is_worse)}"


def difference(points: float, form: str, *, more_is_worse: bool) -> str:
    """Points of %, bold where they are worse; as they are shown, so that less than half the last place is nothing."""
    text = format(points, f"+{form}")
    return f"**{text}**" if (float(text) if more_is_worse else -float(text)) > 0 else text


def label(config: TrainConfig, paper: TrainConfig | None) -> str:
    """A line that says whether a run's figures may be compared with the paper's.

    Args:
        config: The run's.
        paper: The settings behind the paper's table; None where it has none.
    """
    if paper is None:
        return "The paper has no figures for such runs."
    differences = "; ".join(deviations(config, paper))
    if not differences:
        return "The paper's recipe in full, on fewer training images."
    if not deviations(replace(config, precision=paper.precision), paper):
        return f"The paper's recipe in full, but for networks that compute in {config.precision}; on fewer images."
    what = "A short run" if config.epochs < paper.epochs else "Not the paper's recipe"
    return f"**{what}; not comparable with the paper's figures.** Where it differs: {differences}."
