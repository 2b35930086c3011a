"""Fig. 2: where the members put the test images, a t-SNE of each one's last hidden features."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from detector.errors import SettingError
from detector.prediction import Ints
from training.evaluation.setting import Setting

POINTS: Final = 1000
# More would make an unreadable picture.
MEMBERS: Final = 5
_PERPLEXITY: Final = 30
_FEWEST: Final = 10
_LEGEND: Final = 10

Embedding = NDArray[np.float32]


def check_points(points: int) -> None:
    """Refuses too few for an embedding.

    Raises:
        InputError: Fewer than 10.
    """
    if points < _FEWEST:
        raise SettingError(f"points: expected at least {_FEWEST}, found {points}")


def embed(features: NDArray[np.float32], *, seed: int) -> Embedding:
    """t-SNE (van der Maaten and Hinton, 2008) of (N, F) features: (N, 2)."""
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features))


def scatter(
    embeddings: Mapping[Setting, Sequence[Embedding]], labels: Ints, class_names: Sequence[str], title: str
) -> Figure:
    """Draws a grid, settings by members, points coloured by their true class.

    Args:
        embeddings: (N, 2) of each member, the same number for each setting.
        labels: (N,) true classes.
        class_names: L of them.
        title: Of the figure.
    """
    columns = max(map(len, embeddings.values()))
    figure = Figure(figsize=(1 + 2.1 * columns, 0.9 + 2.1 * len(embeddings)), layout="constrained")
    grid = figure.subplots(len(embeddings), columns, squeeze=False)
    few = len(class_names) <= _LEGEND
    colours = mpl.colormaps["tab10" if few else "turbo"]
    shades = colours(labels if few else labels / (len(class_names) - 1))
    for row, (setting, panels) in zip(grid, embeddings.items(), strict=True):
        row[0].set_ylabel(setting.label)
        for axes, points in zip(row, panels, strict=True):
            axes.scatter(points[:, 0], points[:, 1], c=shades, s=4, linewidths=0)
            axes.set_xticks([])
            axes.set_yticks([])
    for member, axes in enumerate(grid[0]):
        axes.set_title(f"Net {member + 1}", fontsize=10)
    figure.suptitle(title, fontsize=10)
    if few:
        figure.legend(handles=_legend(class_names, colours), loc="outside right center", frameon=False, fontsize=8)
    return figure


def _legend(class_names: Sequence[str], colours: Any) -> list[Line2D]:
    """A dot for each class."""
    return [
        Line2D([], [], linestyle="", marker="o", markersize=4, color=colours(label), label=name)
        for label, name in enumerate(class_names)
    ]
