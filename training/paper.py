"""What the paper printed, for ours to stand beside: Table 1, and the recipe behind it.

Pang et al., "Improving Adversarial Robustness via Promoting Ensemble Diversity", ICML 2019. These
figures are copied from there and nowhere else in the repository; nothing is computed from them but
differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from training.config import TrainConfig
from training.recipes import recipe

# Section 4.2 has three settings, as (alpha, beta).
BASELINE: Final = (0.0, 0.0)
ADP_2_0: Final = (2.0, 0.0)
ADP_2_05: Final = (2.0, 0.5)


@dataclass(frozen=True)
class Errors:
    """One column of Table 1, in % of the 10,000 test images.

    Attributes:
        members: Net 1 to Net K.
        ensemble: Of the averaged prediction.
    """

    members: tuple[float, ...]
    ensemble: float


# data set -> (alpha, beta) -> errors. CIFAR-100 was not trained with ADP_{2,0}.
TABLE1: Final[Mapping[str, Mapping[tuple[float, float], Errors]]] = MappingProxyType(
    {
        "mnist": {
            BASELINE: Errors((0.44, 0.39, 0.43), 0.32),
            ADP_2_0: Errors((0.43, 0.45, 0.37), 0.32),
            ADP_2_05: Errors((0.36, 0.47, 0.47), 0.28),
        },
        "cifar10": {
            BASELINE: Errors((8.30, 8.52, 8.67), 6.78),
            ADP_2_0: Errors((9.01, 9.15, 9.14), 6.74),
            ADP_2_05: Errors((9.34, 9.34, 9.92), 6.56),
        },
        "cifar100": {
            BASELINE: Errors((35.25, 35.91, 36.03), 30.35),
            ADP_2_05: Errors((39.04, 40.86, 39.00), 29.80),
        },
    }
)

TITLES: Final[Mapping[str, str]] = MappingProxyType({"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"})

# Section 4.2; `training.recipes` has the rest.
_NETWORKS: Final[Mapping[str, Any]] = MappingProxyType({"arch": "resnet20", "members": 3})


def settings_of(dataset: str) -> TrainConfig:
    """The settings behind Table 1, as ADP_{2,0.5} with seed 0.

    Args:
        dataset: One of those in `TABLE1`.
    """
    return TrainConfig(dataset=dataset, **_NETWORKS, **recipe("paper", dataset))


def deviations(config: TrainConfig) -> list[str]:
    """Where a run's settings are not those behind Table 1, for example `epochs: 30, not 180`.

    Setting, seed, and what makes a run faster or smaller without changing what it computes, are none.

    Args:
        config: Of a run on one of the data sets in `TABLE1`.
    """
    free = {field: getattr(config, field) for field in ("alpha", "beta", "seed", "compile", "sequential")}
    return config.differences(replace(settings_of(config.dataset), **free))
