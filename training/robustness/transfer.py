"""Fig. 3: what is crafted on one member, fed to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.markdown import table
from detector.prediction import Floats
from training.aim import Aim
from training.attacks import IteratedAttack
from training.evaluation.setting import Setting
from training.paper import BASELINE
from training.robustness.findings import Findings
from training.robustness.plan import AIMS, TARGET, TRANSFERRED

_MATRICES: Final = tuple((attack, aim) for attack in TRANSFERRED for aim in AIMS)


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What one attack in one mode does from member to member.

    Attributes:
        title: Attack and mode.
        targeted: Whether shares are of success towards the target; else of answers that stay right.
        shares: (K, K) in [0, 1]; element (i, j) was crafted on member i and fed to member j.
        images: How many.
    """

    title: str
    targeted: bool
    shares: Floats
    images: int

    @property
    def own(self) -> float:
        """The mean of the diagonal: fed to the member that they were crafted on."""
        return float(np.diag(self.shares).mean())

    @property
    def others(self) -> float:
        """The mean beside the diagonal: fed to another member."""
        return float(self.shares[~np.eye(len(self.shares), dtype=np.bool_)].mean())


def matrices(findings: Findings) -> dict[Setting, list[Matrix]]:
    """The matrices of each setting's first run; a setting that lacks one has none."""
    found = {
        setting: [_matrix(findings, setting, attack, aim) for attack, aim in _MATRICES] for setting in findings.cells
    }
    return {
        setting: [matrix for matrix in of_setting if matrix is not None]
        for setting, of_setting in found.items()
        if None not in of_setting
    }


def _matrix(findings: Findings, setting: Setting, attack: IteratedAttack, aim: Aim) -> Matrix | None:
    """One matrix, its rows from one cell after another; None where a cell is missing."""
    rows, counts = [], set()
    for member in range(findings.experiment.config.members):
        cell = findings.on_member(setting, attack.describe(), aim, member)
        if cell is None:
            return None
        rows.append([rate.rate for rate in (cell.members_at_target if aim == TARGET else cell.members_right)])
        counts.add(cell.task.images)
    mode = "targeted" if aim == TARGET else "untargeted"
    title = f"{attack.method.upper()}, {mode}"
    return Matrix(title=title, targeted=aim == TARGET, shares=np.array(rows), images=min(counts))


def transfer_table(of_settings: Mapping[Setting, Sequence[Matrix]], clean: Mapping[Setting, float]) -> str:
    """The means of the matrices, in Markdown, bold where more transfers than in the baseline.

    Args:
        of_settings: As many matrices for each, in the same order.
        clean: The mean share of a net alone that is right without an attack.
    """
    baselines = of_settings.get(Setting(*BASELINE))
    rows = [["in %", *(f"{setting.markdown}, {to}" for setting in of_settings for to in ("same net", "other nets"))]]
    rows.append(["no attack: right", *(_percent(clean[setting]) for setting in of_settings for _ in range(2))])
    for position, matrix in enumerate(next(iter(of_settings.values()))):
        row = [f"{matrix.title}: {'reach the target' if matrix.targeted else 'stay right'}"]
        baseline = None if baselines is None else baselines[position]
        for of_setting in of_settings.values():
            row += [_percent(of_setting[position].own), _others(of_setting[position], baseline)]
        rows.append(row)
    return table(rows)


def _others(matrix: Matrix, baseline: Matrix | None) -> str:
    """The mean share of other nets, bold where it is worse than the baseline's."""
    text = _percent(matrix.others)
    gap = 0.0 if baseline is None else float(text) - float(_percent(baseline.others))
    return f"**{text}**" if (gap > 0 if matrix.targeted else gap < 0) else text


def _percent(share: float) -> str:
    """A share in %."""
    return f"{100 * share:.1f}"
