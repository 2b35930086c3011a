"""The picture of a run: what is drawn of which numbers, however many epochs there are."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from training import TrainConfig
from training.curves import draw, write_curves

ADP = TrainConfig(members=3, keep="best")
BASELINE = TrainConfig(members=3, alpha=0.0, beta=0.0)


def metrics(epochs: int, config: TrainConfig = ADP, **changed: Any) -> list[dict[str, Any]]:
    """What training might have measured."""
    return [
        {
            "epoch": epoch,
            "loss": 3.0 / epoch,
            "cross_entropy": 5.0 / epoch,
            **({"entropy": 1.0} if config.alpha else {}),
            **({"log_diversity": -0.5 / epoch} if config.beta else {}),
            "accuracy": 1 - 0.5 / epoch,
            "member_accuracy": [0.9 - 0.5 / epoch, 0.8 - 0.5 / epoch, 0.7 - 0.5 / epoch],
            "median_log_diversity": -2.0 / epoch,
            **changed,
        }
        for epoch in range(1, epochs + 1)
    ]


def curves(figure: Figure, panel: int) -> dict[str, list[float]]:
    """What a panel's curves show, by label; those without one by number."""
    shown = [line for line in figure.axes[panel].get_lines() if line.get_linestyle() != ":"]
    return {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float).tolist() for line in shown}


def test_the_panels_show_the_metrics() -> None:
    losses, accuracies, diversities = (curves(draw(metrics(4), ADP), panel) for panel in range(3))
    assert losses["loss"] == [3.0, 1.5, 1.0, 0.75]
    assert {name.split(" (")[0] for name in losses} == {
        "loss", "cross-entropy, sum over members", "entropy", "log diversity"
    }  # fmt: skip
    assert accuracies["ensemble, 87.5 % now"] == [0.5, 0.75, 1 - 0.5 / 3, 0.875]
    assert len(accuracies) == 4
    assert [list(values) for values in diversities.values()] == [pytest.approx([2.0, 1.0, 2 / 3, 0.5])]


def test_the_baseline_has_one_loss() -> None:
    assert set(curves(draw(metrics(2, BASELINE), BASELINE), 0)) == {"loss"}


def test_identical_members_are_drawn_at_the_end_of_the_axis() -> None:
    figure = draw(metrics(3, median_log_diversity=-math.inf), ADP)
    (values,) = curves(figure, 2).values()
    low, high = sorted(figure.axes[2].get_ylim())
    assert all(low <= value <= high and math.isfinite(value) for value in values)
    assert "-inf now" in figure.axes[2].get_title(loc="left")


@pytest.mark.parametrize("epochs", [1, 2, 180])
def test_any_number_of_epochs_fits(epochs: int) -> None:
    figure = draw(metrics(epochs), ADP)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low < 1 <= epochs < high
    low, high = sorted(figure.axes[2].get_ylim())
    assert low <= 2 / epochs <= 2 <= high
    assert figure.get_suptitle().endswith(f"{epochs} of 40 epochs (dotted: epoch {epochs}, kept so far)")


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    for epochs in (1, 3):
        write_curves(tmp_path / "curves.png", metrics(epochs), ADP)
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1210, 396)
