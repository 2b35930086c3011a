"""What a caller with one image waits beside a caller with a thousand a call.

    python -m benchmarks.fairness --out fairness.json

Each caller is a `ledgate bench` of its own, one call at a time, against `ledgate serve` on loopback. Three times: alone
on an idle server; beside the large one with the product's queue, in which a large request takes turns with the others;
and beside it in strict order of arrival, which `benchmarks.firstcome` makes of the same queue. Also what fairness costs
the large caller: its images a second.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from benchmarks.ending import run
from benchmarks.served import SERVE, loaded, outcome, served
from detector.provenance import provenance

ALONE: Final = "alone, on an idle server"
TURNS: Final = "beside the large one, in turns"
ORDER: Final = "beside it, in order of arrival"
# Each server, with the cases that it meets.
_SERVERS: Final = {SERVE: (ALONE, TURNS), ("benchmarks.firstcome",): (ORDER,)}
# For the large calls, of which the first may have to wait for the cores.
_DEADLINE_S: Final = "300"
# Until it is interrupted.
_DAY_S: Final = "86400"


def case(name: str, address: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row: what the small caller waited, and what the large one got."""
    common = ("--callers", "1", "--warm-up-s", str(options.warm_up_s), "--deadline-s", _DEADLINE_S)
    times = ("--duration-s", str(options.seconds))
    if name == ALONE:
        with loaded(address, *common, *times) as small:
            return {"small": outcome(small), "large": None}
    with loaded(address, *common, "--batch", str(options.large), "--duration-s", _DAY_S) as large:
        with loaded(address, *common, *times) as small:
            found = outcome(small)
        return {"small": found, "large": outcome(large, interrupt=True)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all cases; returns what the JSON has."""
    bundles = [] if options.bundle is None else [str(options.bundle)]
    # Room for the large request, and beside it for the small one.
    limits = ("--max-images", str(options.large), "--max-queue", str(2 * options.large))
    cases: dict[str, dict[str, Any]] = {}
    with tqdm(total=sum(map(len, _SERVERS.values())), unit="case", disable=None, leave=False) as bar:
        for command, names in _SERVERS.items():
            with served(*bundles, *limits, command=command) as server:
                for name in names:
                    cases[name] = case(name, server.address, options)
                    bar.update()
    rows: dict[str, Any] = {}
    for name, each in cases.items():
        latency, large = each["small"]["latency_ms"], each["large"]
        rows[name] = {
            "calls": latency["n"],
            **{f"{column}_ms": latency[column] for column in ("p50", "p99", "max")},
            "p50_times_alone": latency["p50"] / cases[ALONE]["small"]["latency_ms"]["p50"],
            "large_images_per_s": None if large is None else large["images_per_s"],
            "failed": each["small"]["calls"]["failed"] + (0 if large is None else large["calls"]["failed"]),
        }
    return {
        "settings": {name: getattr(options, name) for name in ("large", "seconds", "warm_up_s")},
        "model": cases[ALONE]["small"]["model"],
        "rows": rows,
        "runs": cases,
        "provenance": provenance(),
    }


def table(found: dict[str, Any]) -> str:
    """The figures, for people; Markdown."""
    lines = [f"| one image a call, beside {found['settings']['large']} | calls | p50 ms | p99 ms | max ms "
             "| p50, times alone | large caller, images/s |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in found["rows"].items():
        large = "" if row["large_images_per_s"] is None else f"{row['large_images_per_s']:.0f}"
        lines.append(f"| {name} | {row['calls']} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {row['max_ms']:.1f} "
                     f"| {row['p50_times_alone']:.1f} | {large} |")  # fmt: skip
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fairness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--large", type=int, default=1000, metavar="IMAGES", help="of the large calls (default: 1000)")
    add("--seconds", type=float, default=60.0, metavar="S", help="to measure, of each case (default: 60)")
    add("--warm-up-s", type=float, default=5.0, metavar="S", help="before (default: 5)")
    add("--bundle", type=Path, help="to serve (default: the one that comes with ledgate)")
    add("--quick", action="store_true", help="a few seconds, to see that it runs; the figures mean nothing")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.seconds, options.warm_up_s = 0.3, 0.1
    return options


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
