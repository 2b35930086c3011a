"""An experiment with what attacks did to its runs: what tables and figures are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.aim import Aim
from training.evaluation.experiment import Experiment
from training.evaluation.setting import Setting
from training.paper import Accuracies
from training.robustness.cell import Cell
from training.robustness.cells import most_images
from training.robustness.plan import table_of


@dataclass(frozen=True, kw_only=True)
class Findings:
    """An experiment with the cells of its runs.

    Attributes:
        experiment: The runs.
        cells: Of each setting, one run's after another's, by seed.
    """

    experiment: Experiment
    cells: Mapping[Setting, Sequence[Sequence[Cell]]]

    @property
    def table(self) -> Accuracies | None:
        """The paper's table about such runs; None where it has none."""
        return table_of(self.experiment.config)

    @property
    def settings(self) -> list[Setting]:
        """Those of the paper's table, whether or not they were run, and those that were run; the baseline first."""
        printed = [] if self.table is None else [Setting(*weights) for weights in self.table.weights]
        return sorted({*printed, *self.cells})

    def of(self, setting: Setting, attack: Mapping[str, Any], aim: Aim) -> list[Cell]:
        """What an attack on the ensembles did: one cell for each run of a setting that has any."""
        found = [most_images(run, attack, aim.describe()) for run in self.cells.get(setting, ())]
        return [cell for cell in found if cell is not None]

    def on_member(self, setting: Setting, attack: Mapping[str, Any], aim: Aim, member: int) -> Cell | None:
        """What was crafted on one member of a setting's first run did."""
        runs = self.cells.get(setting, ())
        return most_images(runs[0], attack, aim.describe(), member) if runs else None
