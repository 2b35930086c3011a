"""`table1.md`: the paper's Table 1 beside ours, with what tells how far the comparison can be trusted."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from detector.markdown import table
from detector.scorescale import MOST
from training.evaluation.command import command, shell
from training.evaluation.comparison import label
from training.evaluation.duration import duration
from training.evaluation.errors import error_table
from training.evaluation.estimate import Estimate
from training.evaluation.experiment import Experiment
from training.evaluation.histogram import LEAST, outside
from training.evaluation.setting import Setting
from training.paper import TABLE1, TITLES, settings_of

_HOW_TO_READ: Final = """\
- **ours** is the mean over seeds with its 95 % t interval, which says what other seeds would give. With a single seed
  it is that run's error with its exact (Clopper-Pearson) 95 % interval, which says what other test images would give.
- After the semicolon stands ours less the paper's, in points of %, **bold where ours is worse**; in the last row, bold
  where our ensemble is worse than our baseline's. In the paper it never is.
- The test images chose nothing. A run that keeps its best epoch keeps the best on its validation images; the authors'
  code chose the epoch on the test images, which makes the paper's errors look lower than they are.
- We train on fewer images than the paper, since images for validation and calibration are held out; each table says how
  many. The paper says that each of its data sets has 50,000 training images.
"""

_FIGURE_5: Final = (
    "The paper's Fig. 5 draws this for CIFAR-10; its medians stand in the picture only and are not available as text. "
    'In words (Appendix B.3), the diversity of ADP<sub>2,0</sub> is "still much larger than the baseline", and the '
    "log diversity in the loss raises it further."
)


def page(experiments: Sequence[Experiment], pictures: Mapping[str, str], provenance: Mapping[str, Any]) -> str:
    """The page, in Markdown.

    Args:
        experiments: In the order to show them.
        pictures: For each experiment's slug, its pictures, in Markdown.
        provenance: What made the page.
    """
    ran = {experiment.config.dataset for experiment in experiments}
    sections = [_section(experiment, pictures[experiment.slug]) for experiment in experiments]
    sections += [_not_run(dataset) for dataset in TABLE1 if dataset not in ran]
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return "\n\n".join(
        [
            "# Table 1: errors on the test images, in %",
            'Beside ours stand the figures of Pang et al., "Improving Adversarial Robustness via Promoting Ensemble '
            'Diversity", ICML 2019, Table 1. Every figure of every run, with all of its settings, is in '
            "[table1.json](table1.json).",
            _HOW_TO_READ.rstrip(),
            *sections,
            "---",
            f"Measured by `{provenance['command']}` on {provenance['time']}, {provenance['machine']}; {versions}.\n",
        ]
    )


def _section(experiment: Experiment, pictures: str) -> str:
    """One experiment: its errors, its runs, its diversity."""
    config, images = experiment.config, experiment.evaluations[0].result.images
    runs = {setting: experiment.results(setting) for setting in experiment.settings}
    parts = [
        f"## {experiment.title}",
        label(config, settings_of(config.dataset) if config.dataset in TABLE1 else None),
        f"Trained on {images['train']:,} images, with {images['validation']:,} for validation and "
        f"{images['calibration']:,} for calibration held out; measured on {images['test']:,} test images.",
        error_table(config.dataset, runs),
        *_missing(experiment),
        _runs(experiment),
        _diversity(experiment),
        *([_FIGURE_5] if config.dataset == "cifar10" else []),
        pictures,
    ]
    return "\n\n".join(parts)


def _not_run(dataset: str) -> str:
    """A data set of the paper's on which nothing was trained."""
    settings = [Setting(*weights) for weights in TABLE1[dataset]]
    how = shell(command(settings_of(dataset), settings, [0, 1, 2]))
    return f"## {TITLES[dataset]}: not run\n\n{error_table(dataset, {})}\n\nThe paper's recipe in full:\n\n{how}"


def _missing(experiment: Experiment) -> list[str]:
    """What the paper has and these runs have not, with the command that trains it in the same way."""
    missing = [
        setting
        for weights in TABLE1.get(experiment.config.dataset, {})
        if (setting := Setting(*weights)) not in experiment.settings
    ]
    if not missing:
        return []
    seeds = sorted({evaluation.result.seed for evaluation in experiment.evaluations})
    names = ", ".join(setting.markdown for setting in missing)
    return [f"Not run: {names}. This runs it in the same way:", shell(command(experiment.config, missing, seeds))]


def _runs(experiment: Experiment) -> str:
    """Every run: how it was trained, and what was chosen on what."""
    rows = [("setting", "seed", "run", "epoch kept", "validation accuracy", "training took", "on")]
    for setting in experiment.settings:
        for result in experiment.results(setting):
            kept = f"{result.kept_epoch} of {result.epochs}"
            validation = f"{100 * result.validation_accuracy:.2f} %"
            took, machines = duration(result.seconds), "; then ".join(result.machines)
            rows.append((setting.markdown, str(result.seed), result.run, kept, validation, took, machines))
    best = "best on validation" if experiment.config.keep == "best" else "last"
    return f"The runs; of each the epoch kept is the {best}.\n\n{table(rows)}"


def _diversity(experiment: Experiment) -> str:
    """What the members make of the test images together, beside being right or wrong."""
    rows = [("setting", "median log diversity", "5 % to 95 % of images", "mean confidence", "JS-divergence")]
    for setting in experiment.settings:
        results = experiment.results(setting)
        spread = results[0].log_diversity_quantiles
        rows.append(
            (
                setting.markdown,
                _over_seeds([result.median_log_diversity for result in results], -math.inf, 0),
                f"{spread['0.05']:.3g} to {spread['0.95']:.3g}",
                _over_seeds([result.confidence for result in results], 0, 1),
                _over_seeds([result.js_divergence for result in results], 0, math.inf),
            )
        )
    ends = {setting: outside(run.log_diversity) for setting, run in experiment.first().items()}
    drawn = ", ".join(f"{setting.markdown} {count}" for setting, count in ends.items())
    return (
        "Log diversity, Eq. (3), natural logarithm, of the test images; the label left out is the ensemble's own "
        "prediction, as when it is served. Confidence is the averaged prediction's largest entry; JS-divergence is Eq. "
        f"(9), a diagnostic.\n\n{table(rows)}\n\n"
        "Means over seeds with their t interval; the spread, and the pictures, are of the lowest seed. In the "
        f"histogram what lies beyond {-MOST:g} or {-LEAST:g} is drawn at that end; images there: {drawn}."
    )


def _over_seeds(values: Sequence[float], least: float, most: float) -> str:
    """Mean and interval."""
    return Estimate.of_seeds(values, least=least, most=most).text(".3g")
