"""`robustness.md`: what attacks leave, the paper's figures beside ours, with what tells how far to trust them."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.evaluation.command import PARTS, command, shell
from training.evaluation.comparison import label
from training.evaluation.setting import Setting
from training.paper import TABLES, TITLES, Accuracies, settings_of
from training.robustness.accuracies import accuracy_table, printed_table
from training.robustness.coverage import shortfalls
from training.robustness.findings import Findings
from training.robustness.gate import TARGET
from training.robustness.strong import strong_table
from training.robustness.summary import summary
from training.robustness.transfer import Matrix, transfer_table

_ADP_FALLS: Final = """\
**ADP is no wall.** The paper's attacks climb a loss that is nearly flat, so that part of what its tables show is the
attack's weakness and not the ensemble's strength. In the literature a stronger attack (MORA, NeurIPS 2022), at eps
0.01, leaves 0.87 % of an ensemble of the paper's kind right (CIFAR-10, three ResNet-20, ADP), where the paper's PGD
leaves 48.4 %. How far our own ensembles fall when the attack is a better one, the columns "correct loss" and
"AutoAttack" show; how many of the images that are wrong then pass the gate of log diversity, those with "not flagged";
and how many do when the attacker knows of that gate, the last ones.
"""

_HOW_TO_READ: Final = f"""\
- Figures are shares of attacked test images, in %, that the ensemble still classifies right, unless a head says
  otherwise. The images are a sample of the test part with a fixed seed, the same for every run of a data set; smaller
  samples are part of larger ones. They chose nothing: not an attack, not a parameter, not the threshold.
- **ours** is one run's share with its exact (Clopper-Pearson) 95 % interval, which says what other test images would
  give; over several seeds, their mean with its 95 % t interval. After the semicolon stands ours less the paper's, in
  points of %, **bold where ours is worse**.
- **paper's protocol**: as in the authors' code, the label to leave is the ensemble's own prediction. FGSM, BIM, PGD and
  MIM climb the cross-entropy of the softmax of the averaged *probabilities*, softmax twice, which leaves little to
  climb; 10 steps of eps / 10. JSMA lowers the label's averaged probability by one value after another, and stalls
  where the best of them is 0 already. C&W and EAD have one constant, confidence 0.1, and 1,000 steps at a rate of 0.01.
- **correct loss**: the same attacks leave the true label, and climb minus the log of its averaged probability; JSMA
  takes only values that can be lowered. C&W and EAD minimise the same function in both protocols and differ in the
  label alone; so they are run once, and what is right both before and after stands here.
- **AutoAttack** is the standard version, by pyautoattack: four attacks one after another, without settings.
- **not flagged**: the log diversity, with the ensemble's own prediction left out, is not below a threshold, chosen on
  the run's clean calibration images: with {TARGET}, which flags at most {100 * TARGET.rate:.0f} % of clean images, with
  confidence {100 * (1 - TARGET.delta):.0f} %. Images that are wrong without an attack count as wrong here too. **Bold
  where an ensemble does worse than our baseline.**
- **knows the detector**: MIM in 50 steps of eps / 20 which wants images wrong *and* log diversity above that threshold,
  with one weight after another between the two, up to five.
"""

_EVERYTHING: Final = (
    "What follows was not run. A page shows the runs of one call; this is one for all of the paper's tables, from "
    "training on, and goes on where it is stopped:\n\n"
    + shell(
        ".venv/bin/python scripts/table1 --data-root DATA --tables 1 2 3 4 5 --seeds 0 1 2 --runs runs --out results "
        "-- --device cuda"
    )
)

_TRANSFER: Final = (
    "Fig. 3 of the paper: each attack (eps 0.05, 10 steps of eps / 10) is crafted on one net alone and fed to every "
    "net. A net alone has one softmax, so there is one protocol: the label is the true one, or for targeted attacks "
    "another class drawn at random for each image, and the loss is the plain cross-entropy. The lower the share that "
    "stays right, and the higher the share that reaches the target, the more an attack transfers. The paper's matrices "
    "stand in its picture only and are not available as text; in its words ADP "
    '"can significantly alleviate the transferability among the members of the ensembles".'
)


def page(findings: Sequence[Findings], pictures: Mapping[str, tuple[str, Mapping[Setting, Sequence[Matrix]]]],
         provenance: Mapping[str, Any]) -> str:  # fmt: skip
    """The page, in Markdown.

    Args:
        findings: In the order to show them.
        pictures: For the slug of each experiment that has one, its file and the matrices on it.
        provenance: What made the page.
    """
    shown = [each.table for each in findings]
    missing = [table for table in TABLES if table not in shown]
    sections = [_section(each, pictures.get(each.experiment.slug)) for each in findings]
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return "\n\n".join(
        [
            "# Tables 2 to 5 and Fig. 3: what attacks leave",
            'Beside ours stand the figures of Pang et al., "Improving Adversarial Robustness via Promoting Ensemble '
            'Diversity", ICML 2019. Every figure, with all settings of its attack, is in '
            "[robustness.json](robustness.json).",
            _ADP_FALLS.rstrip(),
            _HOW_TO_READ.rstrip(),
            *sections,
            *([_EVERYTHING] if missing else []),
            *map(_not_run, missing),
            "---",
            f"Written by `{provenance['command']}` on {provenance['time']}, {provenance['machine']}; {versions}. Where "
            "and in what time each figure was computed is in the JSON.\n",
        ]
    )


def _section(findings: Findings, picture: tuple[str, Mapping[Setting, Sequence[Matrix]]] | None) -> str:
    """One experiment."""
    experiment, table = findings.experiment, findings.table
    config = experiment.config
    theirs = None if table is None else settings_of(table.dataset, members=table.members, adversarial=table.adversarial)
    parts = [
        f"## {experiment.title}{_defence(config.adversarial)}",
        label(config, theirs) if table is None else f"Table {table.number} of the paper. {label(config, theirs)}",
        *_tables(findings),
        *_transfer(findings, picture),
        *_unfinished(findings),
        *_missing(findings),
    ]
    return "\n\n".join(parts)


def _defence(adversarial: str) -> str:
    """For a heading: what the members were trained against."""
    return "" if adversarial == "none" else f", trained against {adversarial.upper()}"


def _tables(findings: Findings) -> list[str]:
    """What attacks on the ensembles leave; nothing where there was none."""
    if not any(cell.task.member is None for runs in findings.cells.values() for run in runs for cell in run):
        return []
    return [
        *summary(findings),
        accuracy_table(findings),
        "What the paper does not have, at the radii of its table, with the correct loss:",
        strong_table(findings),
        _gate(findings),
    ]


def _gate(findings: Findings) -> str:
    """What the threshold does to clean images."""
    said = []
    for setting, runs in findings.cells.items():
        for cells in runs:
            cell = max(cells, key=lambda cell: cell.task.images, default=None)
            if cell is not None:
                said.append(f"{setting.markdown} below {cell.threshold:.3g}, which flags {cell.clean_flagged}")
    return f"Flagged are log diversities of {'; '.join(said)} of clean test images." if said else ""


def _transfer(findings: Findings, picture: tuple[str, Mapping[Setting, Sequence[Matrix]]] | None) -> list[str]:
    """Fig. 3."""
    if picture is None:
        return []
    file, of_settings = picture
    first = next(iter(of_settings.values()))[0]
    errors = {setting: run.result.member_errors for setting, run in findings.experiment.first().items()}
    clean = {setting: 1 - sum(rate.rate for rate in rates) / len(rates) for setting, rates in errors.items()}
    return [
        _TRANSFER,
        f"![Fig. 3: transfer between nets]({file})",
        f"Means of the matrices over nets, on {first.images:,} images, of the lowest seed; the shares with their "
        "intervals are in the JSON. What is right without an attack is of all test images. Bold where more transfers "
        "to other nets than in our baseline.",
        transfer_table(of_settings, clean),
    ]


def _unfinished(findings: Findings) -> list[str]:
    """What is on fewer images than it might be, or not there at all, with the command that computes it."""
    less = shortfalls(findings)
    if not less:
        return []
    experiment = findings.experiment
    words = ["ledgate", "evaluate", *(str(evaluation.run.path) for evaluation in experiment.evaluations)]
    words += [] if experiment.config.dataset == "digits" else ["--data-root", "DATA"]
    words += ["--parts", *PARTS, "--device", "cuda", "--out", "results"]
    return [f"Not in full: {'; '.join(less)}. In full, on a GPU:", shell(shlex.join(words))]


def _missing(findings: Findings) -> list[str]:
    """Settings of the paper's table that were not run, with the command that trains and attacks them."""
    missing = [setting for setting in findings.settings if setting not in findings.cells]
    if not missing:
        return []
    experiment = findings.experiment
    seeds = sorted({evaluation.result.seed for evaluation in experiment.evaluations})
    names = ", ".join(setting.markdown for setting in missing)
    how = command(experiment.config, missing, seeds, PARTS)
    return [f"Not run: {names}. This trains and attacks it in the same way:", shell(how)]


def _not_run(table: Accuracies) -> str:
    """A table of the paper's, or a part of one, for which nothing was run."""
    settings = [Setting(*weights) for weights in table.weights]
    config = settings_of(table.dataset, members=table.members, adversarial=table.adversarial)
    title = f"{TITLES[table.dataset]}, {table.members} x {config.arch}{_defence(table.adversarial)}"
    how = shell(command(config, settings, [0, 1, 2], PARTS))
    return (
        f"## Table {table.number}: {title}: not run\n\n{printed_table(table)}\n\nThe paper's recipe in full, and all "
        f"attacks, which wants a GPU:\n\n{how}"
    )
