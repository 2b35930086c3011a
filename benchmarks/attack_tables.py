"""How long the attacks of Table 2 for CIFAR-10 take: every row of it, in the paper's settings, on one ensemble.

    python -m benchmarks.attack_tables --device cuda --run RUN --data-root data --out tables.json

The paper's numbers of images: 10,000 for FGSM, BIM, PGD and MIM, 1,000 for C&W and EAD, 100 for JSMA. On a GPU all of
them are attacked; on a CPU `--images` or `--few` are, for `--steps` of the 1,000 steps of C&W and EAD, and the
rest is in proportion. Table 2 has three ensembles; at most 5 minutes for all of them on an H200.

Without `--run`, three untrained ResNet-20 are attacked on random images away from what they answer. No image of C&W
and EAD stops early then, or where `--steps` are fewer than 1,000, so that theirs is the longest it can take.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.ending import run
from detector.imageset import as_floats
from detector.provenance import provenance
from detector.sample import sample
from training.attacked import batch_size_on
from training.attacks import ATTACKS, Attack, Untargeted
from training.attacks.linf import LinfAttack
from training.attacks.minimum import MinimumAttack
from training.datasets import load
from training.ensemble import build_ensemble
from training.execution import describe_machine, find_device, reproducible
from training.folding import folded
from training.paper import accuracies_of
from training.robustness.counts import PAPER
from training.splits import take
from training.victim import Victim

GOAL_MINUTES: Final = 5.0
ENSEMBLES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is attacked.

    Attributes:
        ensemble: (N, C, H, W) to (N, K, L) logits; the folded copy that gradients are followed through.
        images: (N, C, H, W) float32.
        labels: (N,) int64, to leave.
    """

    ensemble: nn.Module
    images: Tensor
    labels: Tensor


def subject(options: argparse.Namespace, count: int, device: torch.device) -> Subject:
    """A run with images of its test part, or an untrained ensemble with random ones."""
    if options.run is not None:
        victim = Victim.open(options.run, device=str(device))
        test = take(load(victim.run.config.dataset, root=options.data_root), "test")
        test = sample(test, min(count, len(test)), seed=options.seed)
        labels = torch.from_numpy(victim.labels_of(test))
        return Subject(ensemble=victim.folded, images=torch.from_numpy(as_floats(test.images)), labels=labels)
    blank = torch.zeros(3, 1, 1)
    ensemble = build_ensemble(
        options.arch, members=3, image_shape=(3, 32, 32), classes=10, mean=blank, std=blank + 1, seed=options.seed
    )
    ensemble.to(device).eval().requires_grad_(requires_grad=False)
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(options.seed))
    with torch.no_grad():
        answers = [ensemble(batch.to(device)).softmax(dim=2).mean(dim=1).argmax(dim=1).cpu()
                   for batch in torch.split(images, options.batch_size)]  # fmt: skip
    return Subject(ensemble=folded(ensemble, (3, 32, 32)), images=images, labels=torch.cat(answers))


def rows() -> list[Attack]:
    """The table's."""
    table = accuracies_of("cifar10", 3, "none")
    assert table is not None
    return [ATTACKS[row.method](**row.parameters) for row in table.rows]


def seconds(settings: Attack, on: Subject, images: int, options: argparse.Namespace, device: torch.device) -> float:
    """How long an attack takes on so many of the images, batch by batch."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    for start in range(0, images, options.batch_size):
        batch = slice(start, min(start + options.batch_size, images))
        objective = Untargeted(on.labels[batch].to(device))
        found = settings.perturb(on.ensemble, on.images[batch].to(device), objective, np.arange(images)[batch])
        found.cpu()  # waits
    return clock() - started


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Attacks; returns what the JSON has."""
    device = find_device(options.device)
    options.batch_size = options.batch_size or batch_size_on(device)
    whole = device.type == "cuda" and options.images is None
    table = rows()
    found: dict[str, dict[str, Any]] = {}
    with reproducible(options.threads, device):
        most = max(PAPER.of(each) for each in table) if whole else options.images or 16
        on = subject(options, most, device)
        # Chooses kernels, and is in no figure.
        seconds(table[0], on, min(len(on.images), options.batch_size), options, device)
        for settings in tqdm(table, desc="rows", disable=None, leave=False):
            count = PAPER.of(settings)
            images = (
                min(count, len(on.images))
                if whole or isinstance(settings, LinfAttack)
                else min(options.few, len(on.images))
            )
            part, share, steps = settings, 1.0, "all"
            if isinstance(settings, MinimumAttack) and (not whole or options.run is None):
                part = replace(settings, steps=settings.steps if whole else options.steps, abort_early=False)
                share, steps = part.steps / settings.steps, f"{part.steps} of {settings.steps}"
            took = seconds(part, on, images, options, device)
            found[settings.name] = {"images": count, "measured_images": images, "measured_steps": steps,
                                    "measured_s": took, "seconds": took * count / images / share}  # fmt: skip
        machine = describe_machine(device, 1)
    return {
        "machine": machine,
        "judged_by": "CPU time" if device.type == "cpu" else "wall clock",
        "ensemble": f"3 x {options.arch}, untrained" if options.run is None else Path(options.run).resolve().name,
        "batch_size": options.batch_size,
        "rows": found,
        "table_minutes": ENSEMBLES * sum(float(row["seconds"]) for row in found.values()) / 60,
        "goal_minutes": GOAL_MINUTES,
        "extrapolated": not whole,
        "provenance": provenance("torch", "torchvision"),
    }


def table(found: dict[str, Any]) -> str:
    """The figures, for people; Markdown."""
    lines = [
        f"{found['machine']}; {found['ensemble']}; batches of {found['batch_size']}; {found['judged_by']}\n",
        "| attack | images | seconds | measured on | in |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['images']} | {row['seconds']:.1f} | {row['measured_images']} images, "
        f"{row['measured_steps']} steps | {row['measured_s']:.2f} s |"
        for name, row in found["rows"].items()
    ]
    lines.append(f"\nthe whole of Table 2 for CIFAR-10, {ENSEMBLES} ensembles: {found['table_minutes']:.1f} minutes"
                 f"{', extrapolated' if found['extrapolated'] else ''} (goal on an H200: at most "
                 f"{found['goal_minutes']:g})")  # fmt: skip
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attack_tables", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto (default)")
    add("--run", type=Path, metavar="RUN", help="a finished run on CIFAR-10 (default: an untrained ensemble)")
    add("--data-root", type=Path, metavar="DIR", help="where its data set lies")
    add("--arch", default="resnet20", help="of an untrained ensemble (default: resnet20)")
    add("--images", type=int, metavar="N", help="to measure (default: the paper's on a GPU, 16 on a CPU)")
    add("--few", type=int, default=4, metavar="N", help="to measure for C&W, EAD and JSMA on a CPU (default: 4)")
    add("--steps", type=int, default=20, metavar="N", help="to measure of C&W's and EAD's 1,000 on a CPU (default: 20)")
    add("--batch-size", type=int, metavar="N", help="(default: as ledgate attack)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    add("--quick", action="store_true", help="small, to see that it runs; the figures mean nothing")
    add("--seed", type=int, default=0, help="of images and weights (default: 0)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    if options.quick:
        options.arch, options.images, options.few, options.steps = "cnn", 2, 1, 2
    return options


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
