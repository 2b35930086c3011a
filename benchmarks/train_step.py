"""What a training step costs: four questions, answered side by side in one run.

    python -m benchmarks.train_step --device cpu --out step.json

- ADP: what entropy and log diversity add to a step on the cross-entropies alone, as it is written and in the
  settings for speed; at most 1.03.
- ours: the step of `ledgate train` in its settings for speed, by a plain loop over the members in eager
  float32; at most 0.45 on a CPU with bfloat16, 0.25 on an H200.
- feeding: what a step takes longer that fetches and augments its images than one that has them; at most 1.02.
- sequential: one member at a time by all at once.

Images are random, 32 x 32, in 8 bits: what they show does not change how long a step takes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.ending import run
from benchmarks.timing import ratio, side_by_side
from detector.provenance import provenance
from training.augment import AUGMENTATIONS
from training.config import TrainConfig
from training.ensemble import Ensemble, build_ensemble
from training.execution import describe_machine, find_device, reproducible
from training.feed import Feed
from training.update import Update

SHAPE: Final = (3, 32, 32)
CLASSES: Final = 10
GOALS: Final = {"adp": 1.03, "ours on a CPU with bfloat16": 0.45, "ours on an H200": 0.25, "fed": 1.02}
# The settings for speed: name -> what they change.
FAST: Final[dict[str, dict[str, Any]]] = {
    "eager": {},
    "compile": {"compile": True},
    "bfloat16": {"precision": "bfloat16"},
    "compile-bfloat16": {"compile": True, "precision": "bfloat16"},
}
_BATCHES: Final = 8
Batch = tuple[Tensor, Tensor]


class Bench:
    """The steps that are compared, all from the same weights.

    Args:
        options: Of the command line.
        device: Where they run.
    """

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self._options = options
        self._device = device
        rng = np.random.default_rng(options.seed)
        images = rng.integers(0, 256, (options.images, *SHAPE), dtype=np.uint8)
        self._feed = Feed(images, rng.integers(0, CLASSES, options.images), device)
        self._rng = rng
        self._config = TrainConfig(
            dataset="cifar10",
            arch=options.arch,
            optimiser="sgd",
            learning_rate=1e-3,
            schedule="constant",
            augment="shift-flip",
            batch_size=options.batch_size,
        )

    def step(self, members: int, **settings: Any) -> Callable[[], Tensor]:
        """Our update, of images that are at hand and not varied: gradients, then the optimiser."""
        config = TrainConfig(**{**asdict(self._config), "members": members, "augment": "none", **settings})
        update, batches = Update(self._ensemble(members), config), self._batches()
        no_draws = np.empty((config.batch_size, 0), np.float32)
        return lambda: update(*next(batches), no_draws, done=0.0, size=SHAPE[1:])

    def fed(self, members: int, **settings: Any) -> Callable[[], Tensor]:
        """The same of images that are fetched, from all of them, and varied, as the trainer does it."""
        config = TrainConfig(**{**asdict(self._config), "members": members, **settings})
        update, augmentation = Update(self._ensemble(members), config), AUGMENTATIONS[config.augment]

        def work() -> Tensor:
            ((images, labels),) = self._feed.batches([self._rng.integers(0, len(self._feed), config.batch_size)])
            table = augmentation.table(self._rng, config.batch_size)
            return update(images, labels, table, done=0.0, size=SHAPE[1:])

        return work

    def plain(self, members: int) -> Callable[[], None]:
        """The loop one would write: each member's forward pass, the sum of cross-entropies, one backward pass."""
        ensemble, batches = self._ensemble(members), self._batches()
        optimiser = torch.optim.SGD(ensemble.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

        def work() -> None:
            images, labels = next(batches)
            optimiser.zero_grad()
            loss = torch.stack([functional.cross_entropy(member(images), labels) for member in ensemble.members]).sum()
            torch.autograd.backward(loss)
            optimiser.step()

        return work

    def _ensemble(self, members: int) -> Ensemble:
        """The same weights each time."""
        blank = torch.zeros(SHAPE[0], 1, 1)
        built = build_ensemble(self._options.arch, members=members, image_shape=SHAPE, classes=CLASSES,
                               mean=blank, std=blank + 1, seed=self._options.seed)  # fmt: skip
        return built.to(self._device).train()

    def _batches(self) -> Iterator[Batch]:
        """A few batches, over and over, at hand: what is timed is the step."""
        size = self._config.batch_size
        count = min(_BATCHES, len(self._feed) // size)
        return cycle(list(self._feed.batches(np.split(np.arange(count * size), count))))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs every comparison; returns what the JSON has."""
    device = find_device(options.device)
    with reproducible(options.threads, device):
        bench = Bench(options, device)
        first = options.members[0]
        names = [name for name in FAST if "bfloat16" not in name or _bfloat16(device)]
        if options.no_compile:
            names = [name for name in names if "compile" not in name]
        best = FAST[names[-1]]  # the settings for speed, as far as there are any here
        works: dict[str, Callable[[], object]] = {f"plain K={first}": bench.plain(first)}
        for members in options.members:
            works[f"adp K={members}"] = bench.step(members)
            works[f"cross-entropy K={members}"] = bench.step(members, alpha=0.0, beta=0.0)
        works |= {f"{name} K={first}": bench.step(first, **FAST[name]) for name in names if FAST[name]}
        works[f"fast cross-entropy K={first}"] = bench.step(first, **best, alpha=0.0, beta=0.0)
        works[f"fed K={first}"] = bench.fed(first, **best)
        works[f"sequential K={first}"] = bench.step(first, sequential=True)
        times = side_by_side(works, repeats=options.repeats, calls=options.calls, device=device)
        machine = describe_machine(device, 1)
    eager = f"adp K={first}"
    fastest = f"{names[-1]} K={first}" if best else eager
    ours = {name: ratio(times, f"{name} K={first}" if FAST[name] else eager, f"plain K={first}", device)
            for name in names}  # fmt: skip
    return {
        "machine": machine,
        "judged_by": "CPU time" if device.type == "cpu" else "wall clock",
        "settings": {name: getattr(options, name) for name in
                     ("arch", "members", "batch_size", "threads", "repeats", "calls", "images", "seed")},
        "fastest": names[-1],
        "goals": GOALS,
        "ratios": {
            **{f"adp / cross-entropy, K={members}":
               ratio(times, f"adp K={members}", f"cross-entropy K={members}", device) for members in options.members},
            f"adp / cross-entropy (fastest), K={first}":
                ratio(times, fastest, f"fast cross-entropy K={first}", device),
            **{f"ours ({name}) / plain, K={first}": value for name, value in ours.items()},
            f"fed / at hand (fastest), K={first}": ratio(times, f"fed K={first}", fastest, device),
            f"sequential / simultaneous, K={first}": ratio(times, f"sequential K={first}", eager, device),
        },
        "left_out": {name: "--no-compile" if options.no_compile and "compile" in name
                     else "no bfloat16 in this processor" for name in FAST if name not in names},
        "times_s": {name: {"wall": each.wall, "cpu": each.cpu} for name, each in times.items()},
        "provenance": provenance("torch", "torchvision"),
    }  # fmt: skip


def _bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in it; where it does not, it is ten times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu.read_text("utf-8").split()))


def table(found: dict[str, Any]) -> str:
    """The figures, for people; Markdown."""
    settings = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    lines = [f"{found['machine']}; {settings}; ratios by {found['judged_by']}, medians over the rounds", ""]
    lines += ["| ratio | median |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in found["ratios"].items()]
    lines += ["", "| one step | wall, ms | CPU, ms |", "|---|---|---|"]
    lines += [f"| {name} | {1e3 * median(times['wall']):.2f} | {1e3 * median(times['cpu']):.2f} |"
              for name, times in found["times_s"].items()]  # fmt: skip
    lines += [f"\n{name} left out: {why}" for name, why in found["left_out"].items()]
    goals = ", ".join(f"{name} {value:g}" for name, value in found["goals"].items())
    return "\n".join([*lines, "", f"goals, at most: {goals}"])


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto (default)")
    add("--arch", default="resnet20", help="of the members (default: resnet20)")
    add("--members", type=int, nargs="+", default=[3, 5], metavar="K",
        help="ADP is compared at each, the rest at the first (default: 3 5)")  # fmt: skip
    add("--batch-size", type=int, default=64, metavar="IMAGES", help="(default: 64)")
    add("--repeats", type=int, default=10, metavar="N", help="rounds (default: 10)")
    add("--calls", type=int, default=None, metavar="N", help="steps in a turn (default: 3 on a CPU, else 50)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1, as in training)")
    add("--images", type=int, default=50_000, metavar="N", help="in the data set (default: 50000, as in CIFAR-10)")
    add("--no-compile", action="store_true", help="leave torch.compile out, which takes minutes")
    add("--quick", action="store_true", help="a second or so, to see that it runs; the figures mean nothing")
    add("--seed", type=int, default=0, help="of images and weights (default: 0)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.arch, options.batch_size, options.repeats, options.images = "cnn", 8, 2, 64
        options.no_compile = True
    if options.calls is None:
        options.calls = 1 if options.quick else 3 if find_device(options.device).type == "cpu" else 50
    return options


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
