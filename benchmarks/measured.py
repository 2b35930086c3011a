"""Benchmarks about runs that `ledgate evaluate --parts detection` has measured: how one is called and how it ends."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.detectors import Bench, opened
from benchmarks.ending import finish
from detector.errors import LedgateError
from training.commands.data_root import add_data_root
from training.detection.content import FILE, Content
from training.detection.kept import Kept
from training.execution import THREADS, reproducible


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The command line of a benchmark, without what it has of its own."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("run_folders", type=Path, nargs="+", metavar="RUN", help="runs that 'ledgate evaluate' has measured")
    add_data_root(found)
    add("--device", default="cpu", help="cpu, cuda, cuda:N, or auto (default: cpu)")
    add("--threads", type=int, default=THREADS, metavar="N", help=f"CPU threads (default: {THREADS})")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder that 'ledgate evaluate' wrote")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return found


def report(
    name: str,
    options: argparse.Namespace,
    measure: Callable[[Bench, Kept], dict[str, Any]],
    shown: Callable[[dict[str, Any]], str],
) -> int:
    """Measures every run, prints, writes; returns the exit status.

    Args:
        name: Of the benchmark.
        options: As its parser returns them.
        measure: What the JSON has of one run, from its images and those that are kept.
        shown: The same for people.
    """
    kept = Kept(options.out)
    try:
        with reproducible(options.threads):
            benches = opened(options, Content.load(options.out / FILE), kept)
            found = [measure(bench, kept) for bench in benches]
    except LedgateError as error:
        print(f"benchmarks.{name}: {error}", file=sys.stderr)
        return 1
    return finish({"runs": found}, "\n\n".join(map(shown, found)), options.json)
