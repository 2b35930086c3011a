"""Who has converged, and which epoch is the result: decided from the metrics alone."""

from typing import Any

import pytest

from training import TrainConfig
from training.convergence import converged, kept_epoch


def measured(*losses: float) -> list[dict[str, Any]]:
    """Metrics in which member 0 has these losses, and the others go on falling."""
    return [{"member_loss": [loss, 1 / (1 + epoch), 2 / (1 + epoch)]} for epoch, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ((), 1, False),
        ((1.0,), 1, False),
        ((1.0, 0.9), 1, False),
        ((1.0, 1.1), 1, True),
        ((1.0, 1.0), 1, True),
        ((1.0, 1.1), 2, False),
        ((1.0, 1.1, 1.05), 2, True),
        ((1.0, 1.1, 0.9), 2, False),
        ((1.0, 1.1, 0.9, 0.95, 0.91), 2, True),
        ((1.0, 1.1, 1.2, 0.5), 2, True),
        ((1.0, 1.1, 1.2, 0.5), 3, False),
        ((3.0, 2.0, 2.5, 2.6, 2.7), 0, False),
    ],
)
def test_patience(losses: tuple[float, ...], patience: int, expected: bool) -> None:
    config = TrainConfig(patience=patience)
    assert converged(measured(*losses), config) == (frozenset({0}) if expected else frozenset())


def test_members_converge_one_by_one_and_stay_so() -> None:
    config = TrainConfig(patience=2)
    losses = [(3.0, 3, 3), (2, 2, 2), (2, 1, 2), (2, 1.5, 1), (1, 1.5, 0.9), (0.5, 1.5, 0.8)]
    metrics = [{"member_loss": list(epoch)} for epoch in losses]
    found = [set(converged(metrics[:epoch], config)) for epoch in range(len(metrics) + 1)]
    assert found == [set(), set(), set(), set(), {0}, {0, 1}, {0, 1}]


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.5,), 1), ((0.5, 0.7, 0.6), 2), ((0.5, 0.7, 0.7), 3), ((0.7, 0.5, 0.7, 0.6), 3)]
)
def test_the_kept_epoch(accuracies: tuple[float, ...], best: int) -> None:
    metrics = [{"accuracy": accuracy} for accuracy in accuracies]
    assert kept_epoch(metrics, TrainConfig(keep="best")) == best
    assert kept_epoch(metrics, TrainConfig(keep="last")) == len(accuracies)
