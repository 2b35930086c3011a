"""How long the paper's run on CIFAR-10 takes: whole epochs with validation, as `ledgate train` runs them.

    python -m benchmarks.train_run --device cuda --compile --precision bfloat16 --out run.json

Three ResNet-20, batch 64, 180 epochs; at most 8 minutes on an H200. The first epoch compiles and chooses
kernels, and is reported by itself; the run is that, and 179 times the median of the others. Images are
random, as many as in CIFAR-10 and of its size: the time does not depend on what they show.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.ending import finish
from detector.provenance import provenance
from training.config import PRECISIONS, TrainConfig
from training.datasets import Dataset
from training.execution import describe_machine, find_device, reproducible
from training.recipes import recipe
from training.trainer import Trainer

GOAL_MINUTES: Final = 8.0


def images(train: int, test: int, seed: int) -> Dataset:
    """As many random images as CIFAR-10 has, of its size."""
    rng = np.random.default_rng(seed)
    count = train + test
    return Dataset(
        name="cifar10",
        images=rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8),
        labels=np.arange(count) % 10,
        class_names=tuple(f"class {label}" for label in range(10)),
        test_rows=np.arange(train, count),
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Trains for a few epochs; returns what the JSON has."""
    device = find_device(options.device)
    config = TrainConfig(**{
        **recipe("paper", "cifar10"), "dataset": "cifar10", "arch": options.arch, "members": options.members,
        "precision": options.precision, "compile": options.compile, "seed": options.seed,
    })  # fmt: skip
    dataset = images(*((200, 50) if options.quick else (50_000, 10_000)), options.seed)
    seconds: list[float] = []
    metrics: list[dict[str, Any]] = []
    with reproducible(options.threads, device):
        trainer = Trainer(config, dataset, device=device)
        total = options.epochs * trainer.steps
        with tqdm(total=total, unit="step", disable=None, leave=False) as bar:
            for _ in range(options.epochs):
                start = time.perf_counter()
                measured = trainer.epoch(metrics, lambda _: bar.update())
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds.append(time.perf_counter() - start)
                assert measured is not None
                metrics.append(measured)
        machine = describe_machine(device, 1)
    steady = median(seconds[1:])
    return {
        "machine": machine,
        "config": asdict(config),
        "steps": trainer.steps,
        "first_epoch_s": seconds[0],
        "epochs_s": seconds[1:],
        "run_minutes": (seconds[0] + (config.epochs - 1) * steady) / 60,
        "goal_minutes": GOAL_MINUTES,
        "provenance": provenance("torch", "torchvision"),
    }


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto (default)")
    add("--arch", default="resnet20", help="of the members (default: resnet20)")
    add("--members", type=int, default=3, metavar="K", help="(default: 3)")
    add("--precision", choices=PRECISIONS, default="float32", help="(default: float32)")
    add("--compile", action="store_true", help="with torch.compile")
    add("--epochs", type=int, default=4, metavar="N", help="to measure, at least 2 (default: 4)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1, as in training)")
    add("--quick", action="store_true", help="small, to see that it runs; the figures mean nothing")
    add("--seed", type=int, default=0, help="of images and weights (default: 0)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.arch, options.epochs = "cnn", 3
    if options.epochs < 2:
        parser.error(f"argument --epochs: expected at least 2, found {options.epochs}")
    return options


def main() -> int:
    """Measures, prints, writes."""
    options = parse()
    found = measure(options)
    config, seconds = found["config"], found["epochs_s"]
    text = (
        f"{found['machine']}, {config['members']} x {config['arch']}, batch {config['batch_size']}, "
        f"{config['precision']}, compile {config['compile']}, seed {config['seed']}\n"
        f"first epoch {found['first_epoch_s']:.1f} s, then a median of {median(seconds):.1f} s over {len(seconds)}\n"
        f"a run of {config['epochs']} epochs: {found['run_minutes']:.1f} minutes "
        f"(goal on an H200: at most {found['goal_minutes']:g})"
    )
    return finish(found, text, options.out)


if __name__ == "__main__":
    sys.exit(main())
