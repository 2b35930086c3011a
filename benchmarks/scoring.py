"""What scoring costs beside running the members: each score from logits, on one core.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.scoring --out scoring.json

At most 0.5 ms for 256 images with K=3 and L=10, and 150 ms with K=20 and L=1000, for everything that a verdict takes
from the logits: prediction, class, log diversity, which every reply carries, and the calibrated score, whichever it is.
Beside it: one image alone, where what a call costs whatever it holds is all; the scores without the verdict; and log
diversity of members that are so alike that the Gram matrix is not used, the slowest case there is. Logits are random:
`spread` apart from each other.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.ending import finish
from detector.diversity import log_diversity
from detector.errors import CalibrationError
from detector.outputs import Outputs
from detector.prediction import mean_prediction
from detector.provenance import provenance
from detector.scores import DEFAULT_SCORE, SCORES, score_named
from detector.scores.score import Score

SIZES: Final = ((1, 3, 10), (256, 3, 10), (256, 5, 100), (256, 20, 1000))
GOALS_MS: Final = {(256, 3, 10): 0.5, (256, 20, 1000): 150.0}
VERDICT: Final = "all of a verdict by {}"
ALIKE: Final = "log_diversity, members alike"
_FIT: Final = 500
_AT_LEAST_S: Final = 0.05  # of a repeat


def logits(size: tuple[int, int, int], *, spread: float = 3.0, seed: int = 0) -> NDArray[np.float32]:
    """Random logits, (N, K, L), float32 as members answer; members differ by `spread`."""
    count, members, classes = size
    rng = np.random.default_rng(seed)
    shared = 3 * rng.normal(size=(count, 1, classes))
    return np.asarray(shared + spread * rng.normal(size=(count, members, classes)), dtype=np.float32)


def works(size: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """What is timed at a size, by name; verdicts need the members' prediction anyway, and scores start from it."""
    count, members, classes = size
    some, alike = logits(size), logits(size, spread=1e-3)
    labels, same = (mean_prediction(values).argmax(axis=1) for values in (some, alike))
    fit = logits((_FIT, members, classes), seed=1)
    found: dict[str, Callable[[], object]] = {"mean prediction": lambda: mean_prediction(some)}
    found["log_diversity"] = lambda: log_diversity(some, labels)
    found[ALIKE] = lambda: log_diversity(alike, same)
    for name in SCORES:
        try:
            score = score_named(name).fit(fit)
        except CalibrationError:  # not offered at this size
            continue
        if name != DEFAULT_SCORE:
            found[name] = lambda score=score: score.measure(Outputs(some))  # type: ignore[misc]
        found[VERDICT.format(name)] = lambda score=score: verdict(score, some)  # type: ignore[misc]
    return {f"{name}, {count} x {members} x {classes}": work for name, work in found.items()}


def verdict(score: Score, logits: NDArray[np.float32]) -> tuple[object, ...]:
    """What `Detector.judge` computes from logits, but for the comparison with the threshold."""
    outputs = Outputs(logits)
    return outputs.labels, outputs.probabilities, outputs.log_diversity, score.measure(outputs)


def goals(names: Collection[str]) -> dict[str, float]:
    """Milliseconds, for each verdict and for log diversity of which there is one."""
    wanted = [*(VERDICT.format(name) for name in SCORES), DEFAULT_SCORE, ALIKE]
    found = {f"{what}, {' x '.join(map(str, size))}": goal for size, goal in GOALS_MS.items() for what in wanted}
    return {name: goal for name, goal in found.items() if name in names}


def seconds(work: Callable[[], object], repeats: int, at_least_s: float) -> list[float]:
    """CPU seconds of a call, once for each repeat, which is as many calls as take that long together."""
    work()
    start = time.process_time()
    work()
    calls = max(1, round(at_least_s / max(time.process_time() - start, 1e-6)))
    times = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(calls):
            work()
        times.append((time.process_time() - start) / calls)
    return times


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times everything; returns what the JSON has."""
    repeats, at_least_s = (1, 0.0) if options.quick else (options.repeats, _AT_LEAST_S)
    times: dict[str, list[float]] = {}
    for size in SIZES[:2] if options.quick else SIZES:
        for name, work in works(size).items():
            times[name] = seconds(work, repeats, at_least_s)
    return {
        "judged_by": "CPU time, median over the repeats",
        "threads": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "repeats": repeats,
        "times_ms": {name: [1e3 * value for value in values] for name, values in times.items()},
        "goals_ms": goals(times),
        "provenance": provenance(),
    }


def table(found: dict[str, Any]) -> str:
    """The medians as Markdown."""
    lines = ["| score, images x members x classes | ms | goal |", "|---|---|---|"]
    for name, values in found["times_ms"].items():
        goal = found["goals_ms"].get(name)
        lines.append(f"| {name} | {median(values):.3f} | {'' if goal is None else f'{goal:g}'} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a goal is missed, unless it is only tried out."""
    parser = argparse.ArgumentParser(description="time the scores from logits")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--out", type=Path, help="write the figures as JSON there")
    options = parser.parse_args(arguments)
    found = measure(options)
    finish(found, table(found), options.out)
    missed = [name for name, goal in found["goals_ms"].items() if median(found["times_ms"][name]) > goal]
    if missed and not options.quick:
        print(f"missed: {', '.join(missed)}")
    return int(bool(missed) and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
