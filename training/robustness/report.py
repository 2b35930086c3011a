"""Attacks the runs, as far as that is not done yet, and writes `robustness.json`, `robustness.md` and Fig. 3."""

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from tqdm import tqdm

from detector.files import write_bytes
from detector.unfinished import discard, folder_of
from training.attacks import AutoAttack
from training.evaluation.duration import duration
from training.evaluation.experiment import Experiment
from training.evaluation.figure import save
from training.evaluation.setting import Setting
from training.execution import THREADS
from training.robustness.cells import Cells, Content
from training.robustness.cost import one_gradient, work
from training.robustness.counts import Counts
from training.robustness.findings import Findings
from training.robustness.measure import Job, Subject
from training.robustness.page import page
from training.robustness.picture import picture
from training.robustness.plan import attacks, transfers
from training.robustness.transfer import Matrix, matrices

PAGE: Final = "robustness.md"


def write_robustness(
    folder: Path,
    experiments: Sequence[Experiment],
    counts: Counts,
    *,
    parts: Collection[str],
    device: str = "cpu",
    progress: bool = True,
    threads: int = THREADS,
) -> Content:
    """Writes the page, the figures and the JSON into a folder.

    Args:
        folder: Made if it is not there. What its `robustness.json` has is not computed again, and is shown whether
            or not it is asked for; of an attack's cells the one on most images.
        experiments: The runs.
        counts: On how many images.
        parts: `robustness`, `transfer`, or both: what to compute.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        progress: Whether to show bars on standard error, if that is a terminal; what there is to do is said anyway.
        threads: CPU threads, at least 1.

    Returns:
        What the JSON has of these runs.

    Raises:
        CalibrationError: A data set with too few calibration images to choose a threshold.
        InputError: A `robustness.json` that is none of ours, or no such device.
    """
    cells = Cells(folder)
    subjects = {
        evaluation.run.path: Subject(evaluation.run, evaluation.dataset, device=device, threads=threads)
        for experiment in experiments
        for evaluation in experiment.evaluations
    }
    _compute(cells, list(subjects.values()), counts, parts, progress=progress, threads=threads)
    findings = [_findings(experiment, cells, subjects) for experiment in experiments]
    cells.save()
    pictures = {each.experiment.slug: drawn for each in findings if (drawn := _draw(each, folder)) is not None}
    write_bytes(folder / PAGE, page(findings, pictures, cells.provenance).encode())
    return cells.content(cell for each in findings for runs in each.cells.values() for run in runs for cell in run)


def _compute(
    cells: Cells, subjects: Sequence[Subject], counts: Counts, parts: Collection[str], *, progress: bool, threads: int
) -> None:
    """Every cell that is asked for and not there, the quick ones first."""
    asked = [(subject, job) for subject in subjects for job in _jobs(subject, counts, parts)]
    left = [(subject, job) for subject, job in asked if cells.find(subject.task(job)) is None]
    if not left:
        return
    left.sort(key=lambda each: work(*each))
    attacked = {subject.digest: subject for subject, _ in left}
    one = {digest: one_gradient(subject.victim, subject.test, threads=threads) for digest, subject in attacked.items()}
    whole = sum(one[subject.digest] * work(subject, job) for subject, job in left)
    where = left[0][0].victim.device
    longer = any(isinstance(job.attack, AutoAttack) for _, job in left)
    print(
        f"{len(left)} of {len(asked)} figures to compute on {where}; gradients alone take about {duration(whole)}"
        f"{', and more where images hold against the first part of AutoAttack' * longer}; what is finished is kept",
        file=sys.stderr,
    )
    for subject, job in tqdm(left, desc="figures", unit="figure", disable=None if progress else True):
        unfinished = folder_of(cells.path.with_name(f"robustness-{subject.task(job).key[:12]}"))
        cells.add(subject.measure(job, unfinished=unfinished, progress=progress))
        discard(unfinished)


def _jobs(subject: Subject, counts: Counts, parts: Collection[str]) -> list[Job]:
    """What is asked for of a run."""
    config = subject.victim.run.config
    jobs = attacks(config, counts, subject.gate) if "robustness" in parts else []
    return [*jobs, *(transfers(config, counts) if "transfer" in parts else [])]


def _findings(experiment: Experiment, cells: Cells, subjects: Mapping[Path, Subject]) -> Findings:
    """An experiment with what is known of its runs."""
    return Findings(
        experiment=experiment,
        cells={
            setting: [cells.of_run(subjects[evaluation.run.path].digest) for evaluation in evaluations]
            for setting, evaluations in experiment.settings.items()
        },
    )


def _draw(findings: Findings, folder: Path) -> tuple[str, Mapping[Setting, Sequence[Matrix]]] | None:
    """Draws Fig. 3; returns its file and what is on it, or nothing where there is nothing to draw."""
    of_settings = matrices(findings)
    if not of_settings:
        return None
    file, title = f"fig3-{findings.experiment.slug}.png", findings.experiment.title
    count = next(iter(of_settings.values()))[0].images
    save(picture(of_settings, f"{title}: transfer between nets, eps 0.05, {count:,} test images"), folder / file)
    return file, of_settings
