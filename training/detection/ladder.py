"""Which strengths are tried: much larger than those of the paper's Table 2, as its Section 4.5 says of Fig. 4.

Its text names no parameter of the figure. So each attack goes up from the strongest setting in the table about
such runs, and stops at the first that leaves at most 1 % right; see `training.detection.choose`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.attacks import ATTACKS, Attack, IteratedAttack
from training.config import TrainConfig
from training.paper import accuracies_of
from training.robustness import plan
from training.robustness.plan import EASY, rows_of

# Times the strongest radius or constant of the table. A radius ends at 1, where every image can be reached.
_RADII: Final = (2.0, 4.0, 8.0)
# Then the largest in so many steps instead of ten, which BIM and MIM need against ADP on CIFAR-10.
_STEPS: Final = 40
_CONSTANTS: Final = (10.0, 100.0, 1000.0)
# JSMA gets twice the table's budget, and then takes each value all the way down at once.
_BUDGET: Final = 2.0

# The radius of the attacker who aims at a score: the largest iterated one of the table on what is as easy as MNIST,
# and the field's usual one on the rest.
_AIMED: Final = {True: 0.15, False: 8 / 255}


def ladders(config: TrainConfig) -> Mapping[str, Sequence[Attack]]:
    """The strengths of each attack, the weakest first, by its method; all of the paper's seven.

    Args:
        config: Of the runs that are attacked.
    """
    usual = accuracies_of("mnist" if config.dataset in EASY else "cifar10", 3, "none")
    assert usual is not None
    # Not every table has every attack; within one, a method's settings stand in rising order.
    strongest = {row.method: row.parameters for row in (*usual.rows, *rows_of(config))}
    return {method: _rungs(method, parameters) for method, parameters in strongest.items()}


def _rungs(method: str, table: Mapping[str, Any]) -> list[Attack]:
    """The settings of one attack."""
    attack = ATTACKS[method]
    if method == "jsma":
        budget = min(_BUDGET * table["gamma"], 1.0)
        return [attack(**{**table, "gamma": budget, "theta": theta}) for theta in (table["theta"], 1.0)]
    if "eps" in table:
        radii = dict.fromkeys(min(factor * table["eps"], 1.0) for factor in _RADII)
        rungs = [attack(**{**table, "eps": round(eps, 6)}) for eps in radii]
        more = {**table, "eps": round(max(radii), 6), "steps": _STEPS}
        return [*rungs, attack(**more)] if issubclass(attack, IteratedAttack) else rungs
    return [attack(**{**table, "c": round(factor * table["c"], 6)}) for factor in _CONSTANTS]


def climb(config: TrainConfig) -> Attack:
    """What the attack that aims at a score is built on; see `training.robustness.plan.climb`."""
    return plan.climb(_AIMED[config.dataset in EASY])
