"""The curves of a run, in one picture: what is minimised, how well it classifies, and how diverse it is."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from detector.files import replacing
from detector.scorescale import LEAST, MOST
from training.config import TrainConfig
from training.convergence import kept_epoch

_STYLE: Final[Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
# With fewer epochs, each is marked: a line through one point is none.
_MARKED: Final = 25
# Room for a legend of four lines, as a share of what the curves take.
_LEGEND: Final = 0.4

Metrics = Sequence[Mapping[str, Any]]


def write_curves(path: Path, metrics: Metrics, config: TrainConfig) -> None:
    """Writes the curves as PNG, whole or not at all.

    Args:
        path: Of the file.
        metrics: Of at least one epoch, as in `metrics.jsonl`.
        config: The run's settings.
    """
    with mpl.rc_context(_STYLE), replacing(path) as part:
        draw(metrics, config).savefig(part, format="png", dpi=110)


def draw(metrics: Metrics, config: TrainConfig) -> Figure:
    """Three panels over epochs."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    losses, accuracies, diversities = figure.subplots(1, 3)
    _losses(losses, metrics, config)
    _accuracies(accuracies, metrics)
    _diversities(diversities, metrics)
    kept = kept_epoch(metrics, config)
    for axes in (losses, accuracies, diversities):
        axes.axvline(kept, color="0.6", linestyle=":", linewidth=1, zorder=0)
        axes.set_xlim(0.5, max(len(metrics), 2) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch")
    figure.suptitle(
        f"{config.dataset}, {config.members} x {config.arch}, alpha {config.alpha:g}, beta {config.beta:g}, seed "
        f"{config.seed}: {len(metrics)} of {config.epochs} epochs (dotted: epoch {kept}, kept so far)",
        x=0.01, ha="left", fontsize=10,
    )  # fmt: skip
    return figure


def _losses(axes: Axes, metrics: Metrics, config: TrainConfig) -> None:
    """The loss and what it is made of, on the training images: means over the epoch."""
    _curve(axes, metrics, "loss", color="black", linewidth=1.8, label="loss")
    if config.alpha or config.beta:
        _curve(axes, metrics, "cross_entropy", color="C0", label="cross-entropy, sum over members")
    if config.alpha:
        _curve(axes, metrics, "entropy", color="C1", label=f"entropy (\u00d7 \u2212{config.alpha:g})")
    if config.beta:
        _curve(axes, metrics, "log_diversity", color="C2", label=f"log diversity (\u00d7 \u2212{config.beta:g})")
    axes.set_title("training loss and its terms", loc="left", fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + _LEGEND * (high - low))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _accuracies(axes: Axes, metrics: Metrics) -> None:
    """The ensemble before its members."""
    epochs = [line["epoch"] for line in metrics]
    members = np.array([line["member_accuracy"] for line in metrics])
    for k, values in enumerate(members.T):
        axes.plot(epochs, values, color="C0", alpha=0.55, linewidth=0.9, marker=_marker(metrics),
                  label=f"{members.shape[1]} members" if k == 0 else None)  # fmt: skip
    _curve(axes, metrics, "accuracy", color="black", linewidth=1.8,
           label=f"ensemble, {100 * metrics[-1]['accuracy']:.1f} % now")  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_title("validation accuracy", loc="left", fontsize=9)
    low, high = axes.get_ylim()
    axes.set_ylim(low - _LEGEND / 2 * (high - low), high)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _diversities(axes: Axes, metrics: Metrics) -> None:
    """The median of the score on honest images: the closer to 0, the more diverse."""
    placed = np.clip([-line["median_log_diversity"] for line in metrics], LEAST, MOST)
    axes.plot([line["epoch"] for line in metrics], placed, color="C2", linewidth=1.8, marker=_marker(metrics))
    axes.set_yscale("log")
    least, most = math.floor(np.log10(placed.min())), math.ceil(np.log10(placed.max()))
    axes.set_ylim(10.0 ** max(most, least + 1), 10.0**least)  # upwards is towards 0
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: f"\u2212{size:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"median log diversity on validation, {metrics[-1]['median_log_diversity']:.3g} now",
                   loc="left", fontsize=9)  # fmt: skip


def _curve(axes: Axes, metrics: Metrics, name: str, **style: Any) -> None:
    """One number of each epoch."""
    axes.plot([line["epoch"] for line in metrics], [line[name] for line in metrics],
              **{"linewidth": 1.2, "marker": _marker(metrics), **style})  # fmt: skip


def _marker(metrics: Metrics) -> str | None:
    """Points where there are few."""
    return "." if len(metrics) < _MARKED else None
