"""Whether a server's memory stays flat: the resident set while calls of many sizes come for minutes.

    python -m benchmarks.memory --minutes 10 --out memory.json

The server is `ledgate serve` on loopback, and the load `ledgate bench`, each in a process of its own. The goal: after
a warm-up, in which every batch size has been seen, the median of the second half is within 2 % of that of the first.
The slope, and the smallest and the largest value, are there to see what two medians can hide.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.ending import finish
from benchmarks.served import loaded, outcome, served
from detector.provenance import provenance

GOAL: Final = 0.02
_PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
_LARGEST: Final = 256


def resident_mib(pid: int) -> float:
    """The resident set of a process; see proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_MIB


def flatness(seconds: Sequence[float], mib: Sequence[float]) -> dict[str, Any]:
    """What samples say, taken at these times.

    Returns:
        Medians of the halves, what the second is more than the first as a share of it, the slope of the line of
        least squares, the smallest and the largest; MiB.
    """
    times, values = (np.asarray(each, np.float64) for each in (seconds, mib))
    middle = len(values) // 2
    first, second = float(np.median(values[:middle])), float(np.median(values[middle:]))
    return {
        "samples": len(values),
        "first_half_mib": first,
        "second_half_mib": second,
        "change": second / first - 1,
        "slope_mib_per_minute": 60 * slope(times, values),
        "least_mib": float(values.min()),
        "most_mib": float(values.max()),
    }


def slope(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Of the line of least squares."""
    return float(np.polyfit(times - times.mean(), values, 1)[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Loads a server and looks at its memory; returns what the JSON has."""
    duration_s = 60 * options.minutes
    load = ("--callers", str(options.callers), "--batch", options.batch, "--seed", str(options.seed))
    times = ("--warm-up-s", str(options.warm_up_s), "--duration-s", str(duration_s), "--deadline-s", "120")
    # Room for a call of the largest size from each caller: refusals would be measured instead of work.
    limits = ("--max-images", str(_LARGEST), "--max-queue", str(_LARGEST * options.callers))
    samples: list[tuple[float, float]] = []
    bundles = [] if options.bundle is None else [str(options.bundle)]
    with served(*bundles, *limits) as server:
        idle = resident_mib(server.pid)
        total = options.warm_up_s + duration_s
        with loaded(server.address, *load, *times) as bench, tqdm(total=total, unit="s", disable=None) as bar:
            begun_s = time.monotonic()
            while bench.poll() is None:
                now_s = time.monotonic() - begun_s
                samples.append((now_s, resident_mib(server.pid)))
                bar.update(min(now_s, total) - bar.n)
                time.sleep(options.every_s)
            answered = outcome(bench)
    kept = [(at_s, mib) for at_s, mib in samples if at_s >= options.warm_up_s]
    found = flatness(*zip(*kept, strict=True))
    return {
        "settings": {name: getattr(options, name) for name in
                     ("minutes", "callers", "batch", "warm_up_s", "every_s", "seed")},
        "model": answered["model"],
        "idle_mib": idle,
        **found,
        "goal": GOAL,
        "flat": abs(found["change"]) <= GOAL,
        "load": {name: answered[name] for name in ("calls", "calls_per_s", "images_per_s", "errors")},
        "samples_s_mib": samples,
        "provenance": provenance(),
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """The figures, for people."""
    settings = found["settings"]
    return (
        f"{settings['minutes']:g} minutes of {settings['callers']} callers with {settings['batch']} images a call, "
        f"after {settings['warm_up_s']:g} s of the same: {found['load']['calls']['answered']} answers, "
        f"{found['load']['images_per_s']:.0f} images/s, {found['load']['calls']['failed']} failed\n"
        f"resident: {found['idle_mib']:.1f} MiB before the load, then a median of {found['first_half_mib']:.1f} in the "
        f"first half and {found['second_half_mib']:.1f} in the second: {found['change']:+.2%} "
        f"(goal: within {found['goal']:.0%})\n"
        f"{found['least_mib']:.1f} to {found['most_mib']:.1f} MiB in {found['samples']} samples, "
        f"{found['slope_mib_per_minute']:+.2f} MiB a minute by least squares"
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, metavar="M", help="to measure (default: 10)")
    add("--warm-up-s", type=float, default=60.0, metavar="S", help="of the same load before (default: 60)")
    add("--callers", type=int, default=4, metavar="N", help="at a time (default: 4)")
    add("--batch", default="1,2,5,16,33,64,150,256", metavar="IMAGES,...",
        help=f"images of a call, at random, at most {_LARGEST} (default: 1,2,5,16,33,64,150,256)")  # fmt: skip
    add("--every-s", type=float, default=1.0, metavar="S", help="between two samples (default: 1)")
    add("--bundle", type=Path, help="to serve (default: the one that comes with ledgate)")
    add("--seed", type=int, default=0, help="of images and of the order of sizes (default: 0)")
    add("--quick", action="store_true", help="a few seconds, to see that it runs; the figures mean nothing")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.minutes, options.warm_up_s, options.every_s = 0.5 / 60, 0.2, 0.05
    return options


def main() -> int:
    """Measures, prints, writes; 1 where the goal is missed, unless it is only tried out."""
    options = parse()
    found = measure(options)
    finish(found, text(found), options.out)
    return int(not found["flat"] and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
