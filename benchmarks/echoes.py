"""What an empty call costs by the kind of grpcio server, side by side: on which kind a server of small calls is built.

    python -m benchmarks.echoes --out echoes.json

Threads, fewer and more; asyncio, also on uvloop where that is installed; and calls that hold no thread, as those of
our server (`serving.callthreads`). Judged by the server's CPU time for a call, which other processes move least. The
payload is one image of 3x32x32 in float32, and is given back.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.ending import run
from benchmarks.serving.children import Child, module
from benchmarks.serving.contenders import Load, Turn, echo
from benchmarks.serving.echo import KINDS
from benchmarks.serving.rounds import side_by_side
from detector.device import usable_cores
from detector.provenance import provenance

_SHAPE: Final = (3, 32, 32)
_SEED: Final = 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All kinds in turns, with few and with many callers."""
    kinds = [kind for kind in KINDS if kind != "uvloop" or find_spec("uvloop")]
    image = np.random.default_rng(_SEED).random((1, *_SHAPE), dtype=np.float32)
    found: dict[str, dict[str, list[Turn]]] = {}
    with ExitStack() as stack:
        callers = stack.enter_context(Child(module("benchmarks.serving.load")))
        echoes = {kind: echo(kind) for kind in kinds}
        for one in echoes.values():
            stack.enter_context(one.child)
        for count in options.callers:
            load = Load(callers=count, images=image, seconds=options.seconds)
            takers = {kind: partial(one.turn, callers, load, usable_cores()) for kind, one in echoes.items()}
            found[str(count)] = side_by_side(f"{count} callers", takers, options.repeats)
    return {
        "judged_by": "CPU time of the server, median over the rounds",
        "settings": {name: getattr(options, name) for name in ("callers", "seconds", "repeats")} | {"seed": _SEED},
        "callers": {
            count: {kind: [vars(turn) for turn in turns] for kind, turns in rounds.items()}
            for count, rounds in found.items()
        },
        "provenance": provenance("grpcio", *(["uvloop"] if "uvloop" in kinds else [])),
    }


def table(found: dict[str, Any]) -> str:
    """The medians, for people; Markdown."""
    lines = ["| callers | server | server CPU, us a call | callers' | calls/s | p50, ms |", "|---|---|---|---|---|---|"]
    for count, kinds in found["callers"].items():
        for kind, turns in kinds.items():
            columns = ("server_ms", "client_ms", "calls_per_s", "p50_ms")
            server, client, rate, p50 = (median(turn[column] for turn in turns) for column in columns)
            lines.append(f"| {count} | {kind} | {1e3 * server:.0f} | {1e3 * client:.0f} | {rate:.0f} | {p50:.2f} |")
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.echoes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--callers", type=int, nargs="+", default=[1, 32], metavar="N", help="at a time (default: 1 32)")
    add("--seconds", type=float, default=2.0, metavar="S", help="of a turn (default: 2)")
    add("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    add("--quick", action="store_true", help="a round of a tenth of a second, to see that it works; times mean nothing")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.callers, options.seconds, options.repeats = [2], 0.1, 1
    return options


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
