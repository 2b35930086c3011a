"""`ledgate evaluate`: finished runs on the test images, as the paper's tables and figures beside ours."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from training.commands.data_root import add_data_root
from training.datasets import Dataset, load
from training.detection.counts import PAPER as FIGURE4
from training.detection.counts import QUICK as QUICK_FIGURE4
from training.detection.counts import counts_on
from training.detection.report import PAGE as FIGURE4_PAGE
from training.detection.report import write_detection
from training.evaluation.command import DETECTION, PARTS
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.report import PAGE as ERRORS
from training.evaluation.report import write_report
from training.evaluation.result import Evaluation, Result, evaluated
from training.evaluation.scatter import POINTS, check_points
from training.execution import THREADS, find_device
from training.robustness.counts import PAPER, QUICK, Counts
from training.robustness.report import PAGE as ROBUSTNESS
from training.robustness.report import write_robustness
from training.run import Run

_COUNTED: Final = {
    "linf": "for FGSM, BIM, PGD, MIM, and for Fig. 3",
    "minimum": "for C&W and EAD, a thousand gradients each",
    "jsma": "for JSMA",
    "strong": "for AutoAttack and the attack that knows the detector",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = (
        "measure finished runs on the test images: the paper's tables and figures, beside ours. 'errors' is Table 1, "
        "Fig. 2 and Fig. 5; 'robustness' Tables 2 to 5, under attack; 'transfer' Fig. 3; 'detection' Fig. 4, how well "
        "attacked images are told from clean ones. All but the first keep what is finished: the same command goes on "
        "where it was stopped."
    )
    add = parser.add_argument
    add("run_folders", type=Path, nargs="+", metavar="RUN",
        help="finished runs; those that differ in alpha, beta and seed alone share a table")  # fmt: skip
    add_data_root(parser)
    add("--parts", nargs="+", choices=(*PARTS, DETECTION), metavar="PART",
        help=f"what to measure: {', '.join((*PARTS, DETECTION))} (default: {PARTS[0]})")  # fmt: skip
    add("--points", type=int, default=POINTS, metavar="IMAGES", help="test images that Fig. 2 shows, at random")
    add("--device", default="auto",
        help="cpu, cuda, cuda:N, or auto: a CUDA device where there is one")  # fmt: skip
    add("--threads", type=int, default=THREADS, metavar="N",
        help="CPU threads; the last bits of the result depend on it")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR",
        help="the folder for table1.md, robustness.md, their JSON, and figures; those in it are replaced")  # fmt: skip
    add("--json", action="store_true", help="print what the .json files have of these runs as JSON")
    group = parser.add_argument_group(
        "images to attack", "test images at random, the same for every run; by default as many as in the paper where "
        "there is a GPU, and on a CPU what takes an hour or so for a run",
    )  # fmt: skip
    group.add_argument("--images", type=int, metavar="N",
                       help="for every attack that has no number of its own (default: by kind, see below)")  # fmt: skip
    for field in fields(Counts):
        default, of_detection = (
            f"(default: {getattr(full, field.name):,} on a GPU, {getattr(quick, field.name):,} on a CPU)"
            for full, quick in ((PAPER, QUICK), (FIGURE4, QUICK_FIGURE4))
        )
        group.add_argument(f"--images-{field.name}", type=int, metavar="N",
                           help=f"{_COUNTED[field.name]} {default}; for detection {of_detection}")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Evaluates."""
    check_points(options.points)
    device = find_device(options.device)
    asked = given(options)
    counts, counts_of_detection = Counts.on(device).but(asked), counts_on(device).but(asked)
    parts = options.parts or PARTS[:1]
    groups = experiments(_evaluated(options))
    written: dict[str, Any] = {}
    if "errors" in parts:
        results = write_report(options.out, groups, points=options.points, threads=options.threads)
        written |= json.loads(results.model_dump_json())
    if {"robustness", "transfer"} & set(parts):
        content = write_robustness(
            options.out, groups, counts, parts=parts, device=options.device, threads=options.threads
        )
        written |= json.loads(content.model_dump_json(exclude={"digest"}))
    if DETECTION in parts:
        found = write_detection(
            options.out, groups, counts_of_detection, device=options.device, threads=options.threads
        )
        written[DETECTION] = json.loads(found.model_dump_json(exclude={"digest"}))
    if options.json:
        print(json.dumps({"path": str(options.out), **written}))
    else:
        _tell(options.out, groups, written)
    return 0


def given(options: argparse.Namespace) -> dict[str, int | None]:
    """What the command line says of the number of images, by kind of attack; None where it says nothing."""
    own = {field.name: getattr(options, f"images_{field.name}") for field in fields(Counts)}
    return {name: options.images if count is None else count for name, count in own.items()}


def _tell(out: Path, groups: Sequence[Experiment], written: dict[str, Any]) -> None:
    """The result in lines."""
    for experiment in groups:
        print(experiment.title)
        for evaluation in experiment.evaluations:
            print(f"  {_line(evaluation.result)}")
    if "results" in written:
        print(f"{out / ERRORS}: {len(written['results'])} runs beside the paper's, with figures")
    if "cells" in written:
        print(f"{out / ROBUSTNESS}: what is left of them under attack, {len(written['cells'])} figures")
    if DETECTION in written:
        count = len(written[DETECTION]["runs"])
        print(f"{out / FIGURE4_PAGE}: how well attacks on {count} run{'s' * (count > 1)} are detected")


def _evaluated(options: argparse.Namespace) -> list[Evaluation]:
    """Every run's figures; a data set is read once."""

    @cache
    def dataset(name: str, image_size: int) -> Dataset:
        return load(name, root=options.data_root, image_size=image_size)

    runs = [Run.open(path) for path in options.run_folders]
    bar = tqdm(runs, desc="measuring", unit="run", disable=None)
    return [
        evaluated(
            run, dataset(run.config.dataset, run.config.image_size), device=options.device, threads=options.threads
        )
        for run in bar
    ]


def _line(result: Result) -> str:
    """A run in one line."""
    error = result.ensemble_error
    return (
        f"{result.setting.name}, seed {result.seed}: {100 * error.rate:.2f} % of {error.n} test images wrong "
        f"({100 * error.low:.2f} to {100 * error.high:.2f}), median log diversity {result.median_log_diversity:.4g}"
    )
