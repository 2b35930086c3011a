"""Tables 2 to 5 themselves: accuracies under attack, the paper's beside ours in two protocols, setting by setting."""

from collections.abc import Iterable, Sequence
from typing import Final

from detector.markdown import table
from detector.rates import Rate
from training.aim import Aim
from training.attacks.minimum import MinimumAttack
from training.evaluation.comparison import compared
from training.evaluation.errors import NOT_RUN
from training.evaluation.setting import Setting
from training.paper import Accuracies, Row
from training.robustness.cell import Cell
from training.robustness.findings import Findings
from training.robustness.plan import LABEL, PAPER, attack_of, rows_of

NONE: Final = "-"
FORM: Final = ".1f"
NAMES: Final = {
    "fgsm": "FGSM", "bim": "BIM", "pgd": "PGD", "mim": "MIM", "jsma": "JSMA", "cw": "C&W", "ead": "EAD",
}  # fmt: skip
_PROTOCOLS: Final = ((PAPER, "ours, paper's protocol"), (LABEL, "ours, correct loss"))


def accuracy_table(findings: Findings) -> str:
    """The table, in Markdown: the paper's columns for all of its settings, ours for those that were run."""
    rows, printed = rows_of(findings.experiment.config), findings.table
    columns = [
        ["accuracy in %", "no attack", *map(name, rows)],
        ["images", images(_all(findings)), *(images(_of_row(findings, row)) for row in rows)],
    ]
    for setting in findings.settings:
        if printed is not None:
            columns.append([f"{setting.markdown}, paper", *_paper(printed, setting)])
        if setting in findings.cells:
            columns += [_ours(findings, setting, aim, head) for aim, head in _PROTOCOLS]
    return table(list(zip(*columns, strict=True)))


def printed_table(printed: Accuracies) -> str:
    """The paper's figures alone, in Markdown."""
    columns = [["accuracy in %", "no attack", *map(name, printed.rows)]]
    settings = sorted(Setting(*weights) for weights in printed.weights)
    columns += [[f"{setting.markdown}, paper", *_paper(printed, setting)] for setting in settings]
    return table(list(zip(*columns, strict=True)))


def name(row: Row) -> str:
    """An attack with its parameters, as in `C&W, c = 0.1`."""
    return ", ".join([NAMES[row.method], *(f"{name} = {value:g}" for name, value in row.parameters.items())])


def images(cells: Iterable[Cell]) -> str:
    """On how many images; several numbers where they differ."""
    return " / ".join(f"{count:,}" for count in sorted({cell.task.images for cell in cells})) or NONE


def rates_of(findings: Findings, setting: Setting, row: Row, aim: Aim) -> list[Rate]:
    """The shares that an attack leaves right, of each run of a setting that has any."""
    attack = attack_of(row)
    if aim == LABEL and isinstance(attack, MinimumAttack):  # see `plan.aims_of`
        return [cell.held for cell in findings.of(setting, attack.describe(), PAPER)]
    return [cell.right for cell in findings.of(setting, attack.describe(), aim)]


def _paper(printed: Accuracies, setting: Setting) -> list[str]:
    """What the paper printed for a setting."""
    figures = [printed.normal.get(setting.weights), *(row.accuracies.get(setting.weights) for row in printed.rows)]
    return [NONE if figure is None else format(figure, FORM) for figure in figures]


def _ours(findings: Findings, setting: Setting, aim: Aim, head: str) -> list[str]:
    """What our runs of a setting measured in a protocol."""
    runs = findings.cells[setting]
    seeds = f"{len(runs)} seed{'s' * (len(runs) > 1)}"
    printed = findings.table
    normal = None if printed is None else printed.normal.get(setting.weights)
    clean = [max(run, key=lambda cell: cell.task.images).clean for run in runs if run]
    return [
        f"{setting.markdown}, {head}, {seeds}",
        _cell(clean, normal),
        *(
            _cell(
                rates_of(findings, setting, row, aim),
                None if printed is None else row.accuracies.get(setting.weights),
            )
            for row in rows_of(findings.experiment.config)
        ),
    ]


def _cell(rates: Sequence[Rate], paper: float | None) -> str:
    """An accuracy with its interval, and how far it is from the paper's."""
    return compared(rates, paper, form=FORM, more_is_worse=False) if rates else NOT_RUN


def _all(findings: Findings) -> list[Cell]:
    """The cells on most images of each run, whose clean images are shown."""
    return [max(run, key=lambda cell: cell.task.images) for runs in findings.cells.values() for run in runs if run]


def _of_row(findings: Findings, row: Row) -> list[Cell]:
    """Every cell that a row shows."""
    attack = attack_of(row).describe()
    return [cell for setting in findings.cells for aim in (PAPER, LABEL) for cell in findings.of(setting, attack, aim)]
