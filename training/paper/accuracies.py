"""Tables 2 to 5: classification accuracies under attack, with the attacks' parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from training.paper.weights import ADP_2_0, ADP_2_05, BASELINE, Weights


@dataclass(frozen=True)
class Row:
    """One attack.

    Attributes:
        method: As in `training.attacks.ATTACKS`.
        parameters: Of that attack, by its own names; distances in units of [0, 1] pixels. What the paper varies
            comes first.
        accuracies: (alpha, beta) -> % of the attacked test images that the ensemble classifies right.
    """

    method: str
    parameters: Mapping[str, float]
    accuracies: Mapping[Weights, float]


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """A table, or the part of one that is about one data set and one way of training.

    Attributes:
        number: The table's.
        dataset: A data set's name.
        members: K.
        adversarial: The attack of adversarial training, or `none`.
        rows: In the paper's order.
        normal: (alpha, beta) -> % without an attack, where the table says so.
    """

    number: int
    dataset: str
    members: int = 3
    adversarial: str = "none"
    rows: tuple[Row, ...]
    normal: Mapping[Weights, float] = field(default_factory=dict)

    @property
    def weights(self) -> list[Weights]:
        """The settings it has figures for, the baseline first."""
        return list(self.rows[0].accuracies)


def _rows(columns: Sequence[Weights], *rows: tuple[str, Mapping[str, float], tuple[float, ...]]) -> tuple[Row, ...]:
    """Rows as they are printed, accuracies in the order of the columns."""
    return tuple(
        Row(method, MappingProxyType(dict(parameters)), MappingProxyType(dict(zip(columns, figures, strict=True))))
        for method, parameters, figures in rows
    )


_THREE: Final = (BASELINE, ADP_2_0, ADP_2_05)
_TWO: Final = (BASELINE, ADP_2_05)

_MNIST: Final = _rows(
    _THREE,
    ("fgsm", {"eps": 0.1}, (78.3, 95.5, 96.3)),
    ("fgsm", {"eps": 0.2}, (21.5, 50.6, 52.8)),
    ("bim", {"eps": 0.1}, (52.3, 86.4, 88.5)),
    ("bim", {"eps": 0.15}, (12.2, 69.5, 73.6)),
    ("pgd", {"eps": 0.1}, (50.7, 73.4, 82.8)),
    ("pgd", {"eps": 0.15}, (6.3, 36.2, 41.0)),
    ("mim", {"eps": 0.1}, (58.3, 89.7, 92.0)),
    ("mim", {"eps": 0.15}, (16.1, 73.3, 77.5)),
    ("jsma", {"gamma": 0.3, "theta": 0.2}, (84.0, 88.0, 95.0)),
    ("jsma", {"gamma": 0.6, "theta": 0.2}, (74.0, 85.0, 91.0)),
    ("cw", {"c": 0.1}, (91.6, 95.9, 97.3)),
    ("cw", {"c": 1.0}, (30.6, 75.0, 78.1)),
    ("cw", {"c": 10.0}, (5.9, 20.2, 23.8)),
    ("ead", {"c": 5.0, "beta": 0.01}, (29.8, 91.3, 93.4)),
    ("ead", {"c": 10.0, "beta": 0.01}, (7.3, 87.4, 89.5)),
)

_CIFAR10: Final = _rows(
    _THREE,
    ("fgsm", {"eps": 0.02}, (36.5, 57.4, 61.7)),
    ("fgsm", {"eps": 0.04}, (19.4, 41.9, 46.2)),
    ("bim", {"eps": 0.01}, (18.5, 44.0, 46.6)),
    ("bim", {"eps": 0.02}, (6.1, 28.2, 31.0)),
    ("pgd", {"eps": 0.01}, (23.4, 43.2, 48.4)),
    ("pgd", {"eps": 0.02}, (6.6, 26.8, 30.4)),
    ("mim", {"eps": 0.01}, (23.8, 49.6, 52.1)),
    ("mim", {"eps": 0.02}, (7.4, 32.3, 35.9)),
    ("jsma", {"gamma": 0.05, "theta": 0.1}, (29.5, 33.0, 43.5)),
    ("jsma", {"gamma": 0.1, "theta": 0.1}, (27.5, 32.0, 37.0)),
    ("cw", {"c": 0.001}, (71.3, 76.3, 80.6)),
    ("cw", {"c": 0.01}, (45.2, 50.3, 54.9)),
    ("cw", {"c": 0.1}, (18.8, 19.2, 25.6)),
    ("ead", {"c": 1.0, "beta": 0.01}, (17.5, 64.5, 67.3)),
    ("ead", {"c": 5.0, "beta": 0.01}, (2.4, 23.4, 29.6)),
)

_CIFAR100: Final = _rows(
    _TWO,
    ("bim", {"eps": 0.005}, (21.6, 26.1)),
    ("bim", {"eps": 0.01}, (10.1, 14.8)),
    ("pgd", {"eps": 0.005}, (26.6, 32.1)),
    ("pgd", {"eps": 0.01}, (11.7, 18.3)),
    ("mim", {"eps": 0.005}, (24.2, 29.4)),
    ("mim", {"eps": 0.01}, (11.2, 17.1)),
)

_TRAINED_ON_FGSM: Final = _rows(
    _TWO,
    ("fgsm", {"eps": 0.04}, (39.3, 56.1)),
    ("bim", {"eps": 0.02}, (19.9, 25.7)),
    ("pgd", {"eps": 0.02}, (24.2, 26.7)),
    ("mim", {"eps": 0.02}, (24.5, 30.6)),
)

_TRAINED_ON_PGD: Final = _rows(
    _TWO,
    ("fgsm", {"eps": 0.04}, (43.2, 52.8)),
    ("bim", {"eps": 0.02}, (27.8, 34.0)),
    ("pgd", {"eps": 0.02}, (32.8, 36.2)),
    ("mim", {"eps": 0.02}, (32.7, 38.8)),
)

# The paper's Table 5 does not name beta for EAD; Table 2 has 0.01 "on both datasets".
_FIVE: Final = _rows(
    _TWO,
    ("fgsm", {"eps": 0.02}, (42.0, 58.4)),
    ("bim", {"eps": 0.01}, (31.6, 41.8)),
    ("pgd", {"eps": 0.01}, (37.4, 44.2)),
    ("mim", {"eps": 0.01}, (37.1, 47.5)),
    ("cw", {"c": 0.01}, (52.3, 56.5)),
    ("ead", {"c": 1.0, "beta": 0.01}, (20.4, 65.3)),
)

TABLES: Final = (
    Accuracies(number=2, dataset="mnist", rows=_MNIST),
    Accuracies(number=2, dataset="cifar10", rows=_CIFAR10),
    Accuracies(number=3, dataset="cifar100", rows=_CIFAR100),
    Accuracies(number=4, dataset="cifar10", adversarial="fgsm", rows=_TRAINED_ON_FGSM),
    Accuracies(number=4, dataset="cifar10", adversarial="pgd", rows=_TRAINED_ON_PGD),
    Accuracies(
        number=5,
        dataset="cifar10",
        members=5,
        rows=_FIVE,
        normal=MappingProxyType({BASELINE: 93.6, ADP_2_05: 93.8}),
    ),
)


def accuracies_of(dataset: str, members: int, adversarial: str) -> Accuracies | None:
    """The table about such ensembles; None where the paper has none."""
    wanted = (dataset, members, adversarial)
    return next((table for table in TABLES if (table.dataset, table.members, table.adversarial) == wanted), None)
