"""What the first run of a batch size costs on the CPU: which sizes a server has to run before it is ready.

    python -m benchmarks.first_runs --out first_runs.json

A bundle is opened anew for each size, run once with one image and once with a full batch, as a server does before it is
ready, and then with that size: by how much the first such run takes longer than the ones after it. Beside it the first
run of all, without any warm-up. On the clock, medians over the rounds.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.ending import run
from detector.bundle import Bundle
from detector.ensemble import Ensemble
from detector.provenance import provenance
from detector.shipped import shipped_bundle
from serving.config import ServerConfig

SIZES: Final = (1, 2, 4, 7, 16, 31)
_LATER: Final = 10
_SEED: Final = 0


def times_ms(ensemble: Ensemble, images: NDArray[np.float32]) -> tuple[float, float]:
    """Of a run, and the median of those after it."""
    found = []
    for _ in range(1 + _LATER):
        begun_s = time.perf_counter()
        ensemble.logits(images)
        found.append(1e3 * (time.perf_counter() - begun_s))
    return found[0], median(found[1:])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All sizes in each round."""
    bundle = Bundle.open(options.bundle)
    images = np.random.default_rng(_SEED).random((ServerConfig.max_batch, *bundle.input.shape), dtype=np.float32)
    rows: dict[str, list[tuple[float, float]]] = {}
    for _ in tqdm(range(options.repeats), desc="rounds", disable=None, leave=False):
        for size in SIZES:
            cold, warm = (Ensemble(bundle.members, device="cpu") for _ in range(2))
            rows.setdefault(f"{size}, nothing before", []).append(times_ms(cold, images[:size]))
            for count in (1, len(images)):
                warm.logits(images[:count])
            rows.setdefault(f"{size}, after 1 and {len(images)}", []).append(times_ms(warm, images[:size]))
    return {
        "settings": {"repeats": options.repeats, "seed": _SEED},
        "ms": {
            name: {"first": median(first for first, _ in each), "later": median(later for _, later in each)}
            for name, each in rows.items()
        },
        "provenance": provenance("onnxruntime-gpu", "onnxruntime"),
    }


def table(found: dict[str, Any]) -> str:
    """The medians, for people; Markdown."""
    lines = ["| images, warmed up | first run, ms | later ones | first by later |", "|---|---|---|---|"]
    for name, row in found["ms"].items():
        lines.append(f"| {name} | {row['first']:.2f} | {row['later']:.2f} | {row['first'] / row['later']:.2f} |")
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, default=shipped_bundle(), help="(default: the one that comes with ledgate)")
    add("--repeats", type=int, default=9, metavar="N", help="rounds (default: 9)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
