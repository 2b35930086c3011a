"""An experiment in a sentence or two: what PGD leaves in both protocols, and what AutoAttack leaves."""

from training.attacks import PGD
from training.evaluation.estimate import Estimate
from training.evaluation.setting import Setting
from training.paper import Row
from training.robustness.accuracies import FORM, rates_of
from training.robustness.findings import Findings
from training.robustness.plan import LABEL, PAPER, rows_of
from training.robustness.strong import autoattacked


def summary(findings: Findings) -> list[str]:
    """One sentence, at the smallest radius of PGD in the paper's table; none where a figure is missing."""
    row = min(
        (row for row in rows_of(findings.experiment.config) if row.method == PGD.method),
        key=lambda row: row.parameters["eps"],
    )
    said = [text for setting in findings.cells if (text := _of_setting(findings, setting, row))]
    return [f"In words, PGD at eps {row.parameters['eps']:g}: {'; '.join(said)}."] if said else []


def _of_setting(findings: Findings, setting: Setting, row: Row) -> str:
    """Of one setting, or nothing."""
    attacks = [
        ("in the paper's protocol", rates_of(findings, setting, row, PAPER)),
        ("with the correct loss", rates_of(findings, setting, row, LABEL)),
        ("under AutoAttack", [cell.right for cell in autoattacked(findings, setting, row.parameters["eps"])]),
    ]
    if not all(rates for _, rates in attacks):
        return ""
    left = [f"{Estimate.of_rates(rates).value:{FORM}} % {how}" for how, rates in attacks]
    return f"{setting.markdown} is still right on {left[0]}, {left[1]}, and {left[2]}"
