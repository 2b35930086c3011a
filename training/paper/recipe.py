"""How the networks behind the paper's tables were trained, and where a run differs from that."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from training.config import TrainConfig
from training.recipes import recipe

TITLES: Final[Mapping[str, str]] = MappingProxyType({"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"})

# What makes a run another setting of the same experiment, or faster or smaller without changing what it computes.
_FREE: Final = ("alpha", "beta", "seed", "compile", "sequential")


def settings_of(dataset: str, *, members: int = 3, adversarial: str = "none") -> TrainConfig:
    """The settings behind a table, as ADP_{2,0.5} with seed 0; by default Table 1's.

    Args:
        dataset: `mnist`, `cifar10` or `cifar100`.
        members: K, 5 in Table 5.
        adversarial: The attack of adversarial training, in Table 4.
    """
    values = recipe("paper", dataset, adversarial=adversarial != "none")
    return TrainConfig(dataset=dataset, arch="resnet20", members=members, adversarial=adversarial, **values)


def deviations(config: TrainConfig, paper: TrainConfig | None = None) -> list[str]:
    """Where a run's settings are not the paper's, for example `epochs: 30, not 180`.

    Setting, seed, and what makes a run faster or smaller without changing what it computes, are none.

    Args:
        config: Of a run.
        paper: As in `settings_of`; by default those behind Table 1, which must have the run's data set.
    """
    theirs = settings_of(config.dataset) if paper is None else paper
    return config.differences(replace(theirs, **{field: getattr(config, field) for field in _FREE}))
