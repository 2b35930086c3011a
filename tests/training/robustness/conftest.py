"""Two runs that share a table, a table of the paper small enough to attack them by, and cells that nobody computed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.rates import Rate
from training import Dataset, Run, TrainConfig, load, train
from training.aim import Aim
from training.attacks import Attack
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.result import evaluated
from training.paper import ADP_2_05, BASELINE, Accuracies, Row
from training.robustness.cell import Cell, Task

# At this radius everything falls at once, to AutoAttack too.
EPS = 0.4
TABLE = Accuracies(
    number=2,
    dataset="digits",
    rows=(
        Row("fgsm", {"eps": EPS}, {BASELINE: 0.0, ADP_2_05: 100.0}),
        Row("pgd", {"eps": EPS, "steps": 2}, {BASELINE: 0.0, ADP_2_05: 100.0}),
        Row("cw", {"c": 10.0, "steps": 20}, {BASELINE: 0.0, ADP_2_05: 100.0}),
    ),
    normal={BASELINE: 50.0, ADP_2_05: 100.0},
)


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> Accuracies:
    """The paper has a table about digits."""
    monkeypatch.setattr("training.paper.accuracies.TABLES", (TABLE,))
    return TABLE


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def baseline(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = replace(run.config, alpha=0.0, beta=0.0)
    return train(config, tmp_path_factory.mktemp("robustness") / "baseline", progress=False)


@pytest.fixture(scope="session")
def experiment(run: Run, baseline: Run, digits: Dataset) -> Experiment:
    (found,) = experiments([evaluated(run, digits), evaluated(baseline, digits)])
    return found


def rate(share: float, n: int = 100) -> Rate:
    return Rate.of(np.arange(n) < round(share * n))


MakeCell = Callable[..., Cell]


@pytest.fixture
def make_cell() -> MakeCell:
    """A cell of an attack, of which one says only what matters."""

    def cell_of(attack: Attack | Mapping[str, Any], aim: Aim, right: float = 0.5, **changes: Any) -> Cell:
        images = changes.pop("images", 100)
        described = attack.describe() if isinstance(attack, Attack) else dict(attack)
        task = Task(
            run=changes.pop("run", "digest"), attack=described, aim=aim.describe(), member=changes.pop("member", None),
            images=images, seed=0,
        )  # fmt: skip
        found = {
            "name": "made", "task": task, "clean": rate(0.9, images), "right": rate(right, images),
            "held": rate(right, images), "unnoticed": rate(0.25, images), "threshold": -1.5,
            "clean_flagged": rate(0.04, images), "members_right": (), "members_at_target": (), "seconds": 1.0,
            "machine": "here",
        }  # fmt: skip
        return Cell(**{**found, **changes})

    return cell_of


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(dataset="cifar10", arch="resnet20")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"
