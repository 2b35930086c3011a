"""The server beside bare ONNX Runtime, an empty service and other servers, around the same members.

    scripts/peers-serving && python -m benchmarks.serving --out serving.json

Goals, each the median over rounds in which everybody has a turn, callers on the same machine:

- many callers with one image each: 0.85 of the images/s of bare ONNX Runtime with its best batch on the same cores,
  0.92 with the callers' CPU time counted out; ahead of tritonserver (Python backend) and mosec, at no worse a p99
- one caller: at most 0.3 ms beyond a bare run of one image and an echo
- callers with 64 images each: 0.98 of bare ONNX Runtime
- networks too small to matter: 0.8 of the calls/s of an empty grpcio service with the same payload

`--curve` compares batch sizes alone, as on a GPU: `--device cuda --curve 1 2 4 ... 1024`. Where other programs run, the
clock says little: see the ratios of CPU time.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.ending import finish
from benchmarks.serving import comparisons
from benchmarks.serving.comparisons import SEED, Course
from benchmarks.serving.contenders import PEERS, PYTHON
from benchmarks.serving.rounds import Cell, table
from benchmarks.serving.small import digits_bundle
from detector.device import usable_cores
from detector.provenance import provenance
from detector.shipped import shipped_bundle
from training.execution import describe_machine

SETTINGS = ("device", "seconds", "repeats", "callers", "batches", "quick")
COMPARISONS = ("singles", "lone", "batches", "small")


def measure(options: argparse.Namespace) -> list[Cell]:
    """Runs the comparisons that the command line asks for."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = () if options.curve else options.only or COMPARISONS
        small = options.small or (digits_bundle(Path(folder) / "digits") if "small" in wanted else options.bundle)
        course = Course(
            bundle=options.bundle, small=small, device=options.device, seconds=options.seconds,
            repeats=options.repeats, callers=options.callers, batches=options.batches,
            peers=tuple(PEERS) if PYTHON.exists() and options.device == "cpu" and not options.no_peers else (),
        )  # fmt: skip
        cells = [getattr(comparisons, name)(course) for name in wanted]
        return [*cells, *comparisons.curve(course, options.curve)]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("--bundle", type=Path, default=shipped_bundle(), help="(default: the one that comes with ledgate)")
    add("--small", type=Path, help="bundle of networks too small to matter (default: the digits members of the tests)")
    add("--device", default="cpu", help="cpu (default) or cuda")
    add("--seconds", type=float, default=5.0, metavar="S", help="of a turn (default: 5)")
    add("--repeats", type=int, default=7, metavar="N", help="rounds (default: 7)")
    add("--callers", type=int, default=32, metavar="N", help="of one image each (default: 32)")
    add("--batches", type=int, nargs="+", default=[1, 8, 16, 32, 64], metavar="IMAGES",
        help="for bare ONNX Runtime to choose from (default: 1 8 16 32 64)")  # fmt: skip
    add("--only", nargs="+", choices=COMPARISONS, help="(default: all)")
    add("--curve", type=int, nargs="+", default=[], metavar="IMAGES", help="batch sizes to compare, and nothing else")
    add("--no-peers", action="store_true", help="leave other servers out")
    add("--quick", action="store_true", help="a round of a tenth of a second, to see that it works; times mean nothing")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.seconds, options.repeats, options.callers, options.batches = 0.1, 1, 4, [4]
    return options


def main() -> int:
    """Measures, prints, writes."""
    options = parse()
    cells = measure(options)
    found: dict[str, Any] = {
        "machine": describe_machine(torch.device(options.device), 1),
        "settings": {name: getattr(options, name) for name in SETTINGS} | {"seed": SEED, "cores": usable_cores()},
        "cells": {cell.name: cell.to_json() for cell in cells},
        "provenance": provenance("grpcio", "onnxruntime-gpu", "onnxruntime"),
    }
    return finish(found, f"{found['machine']}\n\n{table(cells)}", options.out)


if __name__ == "__main__":
    sys.exit(main())
