"""Attacks that the paper does not have: AutoAttack, and one that knows the detector; ADP beside the baseline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from detector.markdown import table
from detector.rates import Rate
from training.attacks import AutoAttack
from training.evaluation.errors import NOT_RUN
from training.evaluation.estimate import Estimate
from training.evaluation.setting import Setting
from training.paper import BASELINE
from training.robustness.accuracies import FORM, images
from training.robustness.cell import Cell
from training.robustness.findings import Findings
from training.robustness.plan import LABEL, aware, radii_of, rows_of


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One figure of each setting: of which cells, which share, and whether more of it is worse."""

    head: str
    find: Callable[[Findings, Setting, float], list[Cell]]
    share: Callable[[Cell], Rate]
    more_is_worse: bool

    def text(self, findings: Findings, setting: Setting, eps: float) -> str:
        """The share in % with its interval, bold where it is worse than the baseline's."""
        ours, baseline = (
            [self.share(cell) for cell in self.find(findings, each, eps)] for each in (setting, Setting(*BASELINE))
        )
        if not ours:
            return NOT_RUN
        estimate = Estimate.of_rates(ours)
        value, text = format(estimate.value, FORM), estimate.text(FORM)
        gap = float(value) - float(format(Estimate.of_rates(baseline).value, FORM)) if baseline else 0.0
        worse = gap > 0 if self.more_is_worse else gap < 0
        return text.replace(value, f"**{value}**", 1) if worse else text


def strong_table(findings: Findings) -> str:
    """The table, in Markdown: a row for each of the paper's radii."""
    radii = radii_of(rows_of(findings.experiment.config))
    shown = [
        [
            cell
            for find in (autoattacked, _knowing)
            for setting in findings.cells
            for cell in find(findings, setting, eps)
        ]
        for eps in radii
    ]
    columns = [["eps", *(f"{eps:g}" for eps in radii)], ["images", *map(images, shown)]]
    columns += [
        [f"{setting.markdown}, {column.head}", *(column.text(findings, setting, eps) for eps in radii)]
        for setting in findings.cells
        for column in _COLUMNS
    ]
    return table(list(zip(*columns, strict=True)))


def autoattacked(findings: Findings, setting: Setting, eps: float) -> list[Cell]:
    """AutoAttack's cells."""
    return findings.of(setting, AutoAttack(eps=eps).describe(), LABEL)


def _knowing(findings: Findings, setting: Setting, eps: float) -> list[Cell]:
    """The cells of the attack that knows the detector."""
    return findings.of(setting, aware(eps), LABEL)


_COLUMNS: Final = (
    _Column(head="AutoAttack: right", find=autoattacked, share=lambda cell: cell.right, more_is_worse=False),
    _Column(
        head="AutoAttack: wrong and not flagged",
        find=autoattacked,
        share=lambda cell: cell.unnoticed,
        more_is_worse=True,
    ),
    _Column(
        head="knows the detector: wrong and not flagged",
        find=_knowing,
        share=lambda cell: cell.unnoticed,
        more_is_worse=True,
    ),
)
