"""Fig. 4: the ROC curves of log diversity, one panel for each setting."""

from collections.abc import Mapping
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from detector.prediction import Floats
from detector.rates import Auc, curve
from training.detection.material import Answers
from training.detection.tables import name
from training.evaluation.setting import Setting

_WIDTH, _HEIGHT = 4.1, 6.0
# The same attack has the same line in every panel, also where colours cannot be told apart.
_STYLES: Final = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def picture(scores: Mapping[Setting, Answers[Floats]], title: str) -> Figure:
    """Draws a panel for each setting, and a curve for each attack, on all attacked inputs.

    Args:
        scores: Log diversity of clean and of attacked test images.
        title: Of the figure.
    """
    figure = Figure(figsize=(0.5 + _WIDTH * len(scores), _HEIGHT))
    figure.set_layout_engine("constrained", wspace=0.06)  # so that one panel's 100 % and the next one's 0 % stand apart
    panels = figure.subplots(1, len(scores), squeeze=False, sharex=True, sharey=True)[0]
    for axes, (setting, found) in zip(panels, scores.items(), strict=True):
        _panel(axes, found)
        axes.set_title(setting.label, loc="left", fontsize=10)
    panels[0].set_ylabel("attacked images flagged")
    figure.suptitle(title, fontsize=10, x=0.01, horizontalalignment="left")
    return figure


def _panel(axes: Axes, scores: Answers[Floats]) -> None:
    """The curves of a setting, with their areas."""
    for place, (method, attacked) in enumerate(scores.attacked.items()):
        label = f"{name(method)}, {len(attacked):,} images, AUC {Auc.of(scores.clean, attacked).value:.3f}"
        # What is no curve but a corner, at an area of 1, is drawn within the frame.
        axes.plot(*curve(scores.clean, attacked), color=f"C{place}", linestyle=_STYLES[place % len(_STYLES)],
                  linewidth=1.5, label=label, clip_on=False)  # fmt: skip
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="chance")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel("clean images flagged")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    # Below the panel: within it there is no corner that no curve may go through.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False, fontsize=8)
