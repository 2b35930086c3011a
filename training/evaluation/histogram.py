"""Fig. 5: the log diversity of the test images, setting by setting."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from detector.prediction import Floats
from detector.scorescale import MOST
from training.evaluation.setting import Setting

# Of ADP trained in full, two images in five are nearer to 0 than a threshold ever is.
LEAST: Final = 1e-8
_BINS_A_POWER: Final = 12


def histogram(scores: Mapping[Setting, Floats], title: str) -> Figure:
    """Draws the shares of test images over log diversity, with medians.

    Args:
        scores: (N,) for each setting, at most 0; minus infinity is drawn at the left end.
        title: Of the figure.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    least, most = _powers(scores)
    edges = np.logspace(least, most, _BINS_A_POWER * (most - least) + 1)
    for position, (setting, values) in enumerate(scores.items()):
        placed = np.clip(-values, edges[0], edges[-1])
        weights = np.full(len(values), 100 / len(values))
        colour, median = f"C{position}", float(np.median(values))
        axes.hist(placed, bins=edges.tolist(), weights=weights, histtype="stepfilled", color=colour, alpha=0.3)
        axes.hist(placed, bins=edges.tolist(), weights=weights, histtype="step", color=colour,
                  label=f"{setting.label}, median {median:.3g}")  # fmt: skip
        axes.axvline(float(np.clip(-median, edges[0], edges[-1])), color=colour, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(10.0**most, 10.0**least)
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("log diversity (logarithmic axis; dotted: medians)")
    axes.set_ylabel("% of the test images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    figure.legend(loc="outside lower left", ncols=len(scores), frameon=False, fontsize=9)
    return figure


def outside(scores: Floats) -> int:
    """How many values are drawn at an end of the axis instead of at their place."""
    return int(np.count_nonzero((-scores < LEAST) | (-scores > MOST)))


def _powers(scores: Mapping[Setting, Floats]) -> tuple[int, int]:
    """The powers of ten between which everything is drawn."""
    sizes = np.clip(-np.concatenate(list(scores.values())), LEAST, MOST)
    most = math.ceil(np.log10(sizes.max()))
    return min(math.floor(np.log10(sizes.min())), most - 1), most


def _tick(size: float, _: int) -> str:
    """A tick as a log diversity; at the ends, with what is drawn there."""
    text = f"\u2212{size:g}"
    return f"\u2265 {text}" if size <= LEAST else f"\u2264 {text}" if size >= MOST else text
