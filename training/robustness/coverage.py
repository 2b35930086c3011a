"""What of the full tables is there: which attacks ran on fewer images than the paper's, and which did not run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from training.aim import Aim
from training.attacks import AutoAttack
from training.robustness.cells import most_images
from training.robustness.counts import PAPER, kind_of
from training.robustness.findings import Findings
from training.robustness.plan import LABEL, aims_of, attack_of, aware, radii_of, rows_of, transfers

_KINDS: Final[Mapping[str, str]] = {
    "linf": "FGSM, BIM, PGD and MIM",
    "jsma": "JSMA",
    "minimum": "C&W and EAD",
    "strong": "AutoAttack and the attack that knows the detector",
    "transfer": "Fig. 3",
}


def shortfalls(findings: Findings) -> list[str]:
    """One phrase for each kind of attack that did not run on as many images as in the paper, in every run."""
    test = findings.experiment.evaluations[0].result.images["test"]
    runs = [cells for of_setting in findings.cells.values() for cells in of_setting]
    counts: dict[str, list[int]] = {}
    for kind, attack, aim, member in _wanted(findings):
        for cells in runs:
            cell = most_images(cells, attack, aim.describe(), member)
            counts.setdefault(kind, []).append(0 if cell is None else cell.task.images)
    fulls = {kind: min(test, PAPER.linf if kind == "transfer" else getattr(PAPER, kind)) for kind in counts}
    return [f"{_KINDS[kind]} {_said(found, fulls[kind])}" for kind, found in counts.items() if min(found) < fulls[kind]]


def _said(counts: Sequence[int], full: int) -> str:
    """On how many images attacks of a kind ran."""
    if not max(counts):
        return "not run"
    return f"on {min(counts):,} of {full:,} images" if min(counts) else "not run everywhere"


def _wanted(findings: Findings) -> Iterator[tuple[str, Mapping[str, Any], Aim, int | None]]:
    """Kind, attack, aim and member of every cell of the full tables."""
    config = findings.experiment.config
    rows = rows_of(config)
    for attack in map(attack_of, rows):
        for aim in aims_of(attack):
            yield kind_of(attack), attack.describe(), aim, None
    for eps in radii_of(rows):
        yield "strong", AutoAttack(eps=eps).describe(), LABEL, None
        yield "strong", aware(eps), LABEL, None
    for job in transfers(config, PAPER):
        yield "transfer", job.attack.describe(), job.aim, job.member
