"""`ledgate evaluate`: finished runs on the test images, as the paper's Table 1, Fig. 2 and Fig. 5 beside ours."""

import argparse
import json
from functools import cache
from pathlib import Path

from tqdm import tqdm

from training.commands.data_root import add_data_root
from training.datasets import Dataset, load
from training.evaluation.experiment import experiments
from training.evaluation.report import PAGE, write_report
from training.evaluation.result import Evaluation, Result, evaluated
from training.evaluation.scatter import POINTS, check_points
from training.execution import THREADS
from training.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add = parser.add_argument
    add("run_folders", type=Path, nargs="+", metavar="RUN",
        help="finished runs; those that differ in alpha, beta and seed alone share a table")  # fmt: skip
    add_data_root(parser)
    add("--points", type=int, default=POINTS, metavar="IMAGES", help="test images that Fig. 2 shows, at random")
    add("--threads", type=int, default=THREADS, metavar="N",
        help="CPU threads; the last bits of the result depend on it")  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR",
        help="the folder for table1.md, table1.json and the figures; those in it are replaced")  # fmt: skip
    add("--json", action="store_true", help="print what table1.json has as JSON")


def run(options: argparse.Namespace) -> int:
    """Evaluates."""
    check_points(options.points)
    groups = experiments(_evaluated(options))
    results = write_report(options.out, groups, points=options.points, threads=options.threads)
    if options.json:
        print(json.dumps({"path": str(options.out), **json.loads(results.model_dump_json())}))
        return 0
    for experiment in groups:
        print(experiment.title)
        for evaluation in experiment.evaluations:
            print(f"  {_line(evaluation.result)}")
    print(f"{options.out / PAGE}: {len(results.results)} runs beside the paper's, with figures")
    return 0


def _evaluated(options: argparse.Namespace) -> list[Evaluation]:
    """Every run's figures; a data set is read once."""

    @cache
    def dataset(name: str, image_size: int) -> Dataset:
        return load(name, root=options.data_root, image_size=image_size)

    runs = [Run.open(path) for path in options.run_folders]
    bar = tqdm(runs, desc="measuring", unit="run", disable=None)
    return [evaluated(run, dataset(run.config.dataset, run.config.image_size), threads=options.threads) for run in bar]


def _line(result: Result) -> str:
    """A run in one line."""
    error = result.ensemble_error
    return (
        f"{result.setting.name}, seed {result.seed}: {100 * error.rate:.2f} % of {error.n} test images wrong "
        f"({100 * error.low:.2f} to {100 * error.high:.2f}), median log diversity {result.median_log_diversity:.4g}"
    )
