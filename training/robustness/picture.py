"""Fig. 3 as a picture: matrices with a number in each cell, settings below each other."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from training.evaluation.setting import Setting
from training.robustness.transfer import Matrix

# Inches: one place of a matrix, and what its labels take beside it and above.
_PLACE: Final = 0.52
_BESIDE: Final = 0.75
_ABOVE: Final = 0.65
_COLOURS: Final = "YlOrRd"
# Above this the ground is so dark that numbers have to be white.
_DARK: Final = 0.6


def picture(of_settings: Mapping[Setting, Sequence[Matrix]], title: str) -> Figure:
    """Draws the matrices; the darker a place, the more of the attack gets through there.

    Args:
        of_settings: As many matrices for each, in the same order.
        title: Of the figure.
    """
    first = next(iter(of_settings.values()))
    members, columns = len(first[0].shares), len(first)
    figure = Figure(
        figsize=(columns * (members * _PLACE + _BESIDE), 0.6 + len(of_settings) * (members * _PLACE + _ABOVE)),
        layout="constrained",
    )
    grid = figure.subplots(len(of_settings), columns, squeeze=False)
    for row, (setting, of_setting) in zip(grid, of_settings.items(), strict=True):
        for axes, matrix in zip(row, of_setting, strict=True):
            _draw(axes, matrix)
        row[0].set_ylabel(f"{setting.label}\ncrafted on net", fontsize=10)
    for axes, matrix in zip(grid[0], first, strict=True):
        what = "% that reach the target" if matrix.targeted else "% that stay right"
        axes.set_title(f"{matrix.title}\n{what}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("fed to net", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axes: Any, matrix: Matrix) -> None:
    """One matrix."""
    strength = matrix.shares if matrix.targeted else 1 - matrix.shares
    axes.imshow(strength, cmap=mpl.colormaps[_COLOURS], vmin=0, vmax=1)
    places = range(len(matrix.shares))
    for i in places:
        for j in places:
            axes.text(j, i, f"{100 * matrix.shares[i, j]:.1f}", ha="center", va="center", fontsize=9,
                      color="white" if strength[i, j] > _DARK else "black")  # fmt: skip
    axes.set_xticks(places, [str(member + 1) for member in places])
    axes.set_yticks(places, [str(member + 1) for member in places])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
