"""Which attacks belong to a run: those of the paper's table about it, and those that the paper does not have."""

from collections.abc import Sequence
from typing import Any, Final

from detector.scores.log_diversity import LogDiversity
from detector.threshold import Threshold
from training.aim import Aim, AwayAsInPaper, AwayFromLabel, Towards
from training.attacks import ATTACKS, MIM, PGD, Attack, AutoAttack, DetectorAware, IteratedAttack
from training.attacks.minimum import MinimumAttack
from training.config import TrainConfig
from training.paper import Accuracies, Row, accuracies_of
from training.robustness.counts import Counts
from training.robustness.gate import Gate
from training.robustness.measure import Job

PAPER: Final[Aim] = AwayAsInPaper()
LABEL: Final[Aim] = AwayFromLabel()
TARGET: Final[Aim] = Towards("random")

# Of the paper's Fig. 3, at ten steps of a tenth of that, as everywhere.
_TRANSFER_EPS: Final = 0.05
TRANSFERRED: Final[Sequence[IteratedAttack]] = (PGD(eps=_TRANSFER_EPS), MIM(eps=_TRANSFER_EPS))
AIMS: Final = (LABEL, TARGET)
# The paper's attacks on MNIST, for what is as easy as that; its attacks on CIFAR-10 for the rest.
EASY: Final = frozenset({"digits", "mnist", "fashion-mnist"})


def table_of(config: TrainConfig) -> Accuracies | None:
    """The paper's table about such runs; None where it has none."""
    return accuracies_of(config.dataset, config.members, config.adversarial)


def rows_of(config: TrainConfig) -> Sequence[Row]:
    """The attacks of the paper's table about such runs; where it has none, those of the table that is closest."""
    table = (
        table_of(config)
        or accuracies_of(config.dataset, 3, "none")
        or accuracies_of("mnist" if config.dataset in EASY else "cifar10", 3, "none")
    )
    assert table is not None
    return table.rows


def attack_of(row: Row) -> Attack:
    """A row's attack, with what the paper sets for all rows as defaults."""
    return ATTACKS[row.method](**row.parameters)


def aims_of(attack: Attack) -> Sequence[Aim]:
    """The protocols to measure an attack in.

    For C&W and EAD one is enough. Both minimise the same function, and differ in the label alone: where the clean
    image is classified right, they do the same, and where it is not, it stays wrong under the label's. So what that
    one leaves is what is right before and after the paper's: `Cell.held`.
    """
    return (PAPER,) if isinstance(attack, MinimumAttack) else (PAPER, LABEL)


def radii_of(rows: Sequence[Row]) -> list[float]:
    """The L-infinity radii in a table."""
    return sorted({row.parameters["eps"] for row in rows if "eps" in row.parameters})


def climb(eps: float) -> Attack:
    """What the attack that knows the detector is built on: five times the paper's steps, which cross the ball."""
    return MIM(eps=eps, steps=50, step_size=eps / 20)


def aware(eps: float) -> dict[str, Any]:
    """What tells the attack that knows the detector from others; its threshold is the run's."""
    settings = _knowing(eps, Threshold(overall=0.0)).describe()
    return {name: value for name, value in settings.items() if name != "threshold"}


def attacks(config: TrainConfig, counts: Counts, gate: Gate) -> list[Job]:
    """The cells of the tables: the cheap ones first."""
    rows = rows_of(config)
    jobs = [
        Job(attack=attack, aim=aim, images=counts.of(attack))
        for attack in map(attack_of, rows)
        for aim in aims_of(attack)
    ]
    for eps in radii_of(rows):
        knowing = _knowing(eps, gate.threshold)
        jobs += [Job(attack=attack, aim=LABEL, images=counts.strong) for attack in (AutoAttack(eps=eps), knowing)]
    return jobs


def _knowing(eps: float, threshold: Threshold) -> DetectorAware:
    """The attack that knows the detector."""
    return DetectorAware(attack=climb(eps), score=LogDiversity(), threshold=threshold)


def transfers(config: TrainConfig, counts: Counts) -> list[Job]:
    """The rows of the matrices of Fig. 3: crafted on one member after another."""
    return [
        Job(attack=attack, aim=aim, images=counts.linf, member=member)
        for attack in TRANSFERRED
        for aim in AIMS
        for member in range(config.members)
    ]
