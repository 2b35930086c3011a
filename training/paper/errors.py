"""Table 1: classification errors on the test images."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from training.paper.weights import ADP_2_0, ADP_2_05, BASELINE, Weights


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
TABLE1: Final[Mapping[str, Mapping[Weights, Errors]]] = MappingProxyType(
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
