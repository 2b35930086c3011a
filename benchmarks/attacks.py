"""Our attacks beside the field's libraries: what an image costs, in one process and in turns.

    scripts/peers && .venv-peers/bin/python -m benchmarks.attacks --out attacks.json

Every library of `benchmarks/peers/attacks` whose version of an attack does the same as ours attacks the same
ensemble, images and labels in the same settings; that they find the same is held by
tests/training/attacks/test_reference.py. Where an attack could stop early, none does; the radius of `square` is so
small that it fools nothing. Goal: at least as fast as each; ten times as fast where JSMA looks at pairs.

Ours follow gradients through the folded copy of the networks, as `ledgate attack` does, which is made beforehand;
theirs are given the networks as they are. What folding alone gains is said beside it: theirs would gain as much by it.

On `digits` the ensemble and images are the tests' own; on `cifar10-shape` weights and images are random, which
changes no time, and labels are what the ensemble answers. Without the libraries ours are timed alone.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.ending import run
from benchmarks.peers.attacks import LIBRARIES, Broken, Counterpart, missing, opened
from benchmarks.peers.attacks.library import Settings
from benchmarks.timing import Work, ratio, side_by_side
from detector import goal
from detector.oracle import Oracle
from detector.prediction import Floats, mean_prediction
from detector.provenance import provenance
from detector.square import Square
from tests.training.attacks import reference
from training.attacks import BIM, EAD, FGSM, MIM, PGD, Attack, CarliniWagner, JSMAPairs
from training.attacks.objective import Objective, Targeted, Untargeted
from training.ensemble import Ensemble, build_ensemble
from training.execution import describe_machine, find_device, reproducible
from training.folding import folded

DATASETS: Final = ("digits", "cifar10-shape")
GOALS: Final = {"jsma-pairs": 10.0}
GOAL: Final = 1.0
OURS: Final = "ours"
UNFOLDED: Final = "ours, not folded"
_FOOLS_NOTHING: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is attacked.

    Attributes:
        ensemble: (N, C, H, W) to (N, K, L) logits.
        folded: The same, see `training.folding`.
        images: (N, C, H, W) float32.
        labels: (N,) int64, the ensemble's answers.
        classes: L.
    """

    ensemble: Ensemble
    folded: Ensemble
    images: Tensor
    labels: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def first(self, count: int) -> "Subject":
        """With fewer images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])


def subject(options: argparse.Namespace, device: torch.device) -> Subject:
    """The ensemble and images that the command line asks for."""
    if options.dataset == "digits" and options.arch == "cnn":
        images, labels = reference.reference_images(options.images)
        ensemble = reference.reference_ensemble().to(device)
        return Subject(
            ensemble=ensemble, folded=folded(ensemble, reference.SHAPE), images=images.to(device),
            labels=labels.to(device), classes=reference.CLASSES,
        )  # fmt: skip
    shape = (3, 32, 32) if options.dataset == "cifar10-shape" else reference.SHAPE
    blank = torch.zeros(shape[0], 1, 1)
    ensemble = build_ensemble(
        options.arch, members=3, image_shape=shape, classes=10, mean=blank, std=blank + 1, seed=options.seed
    )
    ensemble.to(device).eval().requires_grad_(requires_grad=False)
    images = torch.rand(options.images, *shape, generator=torch.Generator().manual_seed(options.seed)).to(device)
    with torch.inference_mode():
        answers = ensemble(images).softmax(dim=2).mean(dim=1).argmax(dim=1)
    copy = folded(ensemble, shape)
    return Subject(ensemble=ensemble, folded=copy, images=images, labels=answers.clone(), classes=10)


def attacks(options: argparse.Namespace) -> list[Settings]:
    """In the paper's settings, but for shorter descents, and for JSMA in pairs, which the paper has not."""
    digits, steps = options.dataset == "digits", options.steps
    eps = 0.1 if digits else 0.01
    return [
        FGSM(eps=eps),
        BIM(eps=eps),
        PGD(eps=eps),
        MIM(eps=eps),
        CarliniWagner(c=1.0 if digits else 0.01, confidence=0.0, steps=steps, abort_early=False),
        EAD(c=5.0 if digits else 1.0, confidence=0.0, steps=steps, abort_early=False),
        JSMAPairs(theta=1.0, gamma=0.2 if digits else 0.005),
        Square(eps=_FOOLS_NOTHING, queries=steps),
    ]


def ours(settings: Settings, on: Subject, network: nn.Module, objective: Objective) -> Work:
    """Our attack through a network; `square` asks it by way of numpy, as it would ask a server."""
    rows, device = np.arange(len(on.images)), on.images.device
    if isinstance(settings, Attack):
        return lambda: settings.perturb(network, on.images, objective, rows)

    def ask(images: NDArray[np.float32]) -> Floats:
        with torch.inference_mode():
            return mean_prediction(network(torch.from_numpy(images).to(device)).cpu().numpy())

    oracle = Oracle(ask=ask, shape=on.shape, classes=on.classes)
    images, leaving = on.images.cpu().numpy(), goal.Untargeted(objective.labels.cpu().numpy())
    return lambda: settings.search(oracle, images, leaving, rows)


def cell(settings: Settings, on: Subject, libraries: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """One attack, ours and theirs: seconds an image, and how many times as fast ours is."""
    targeted = isinstance(settings, JSMAPairs)
    on = on.first(options.jsma_images if targeted else options.images)
    device = on.images.device
    objective: Objective = Targeted((on.labels + 1) % on.classes) if targeted else Untargeted(on.labels)
    works: dict[str, Work] = {
        OURS: ours(settings, on, on.folded, objective),
        UNFOLDED: ours(settings, on, on.ensemble, objective),
    }
    left_out = {}
    for name in libraries:
        library = opened(name)(on.ensemble, shape=on.shape, classes=on.classes, device=device, targeted=targeted)
        match library.counterpart(settings):
            case Counterpart(run=run):
                works[name] = lambda run=run: run(on.images, objective.labels)  # type: ignore[misc]
            case Broken(why=why):
                left_out[name] = why
    times = side_by_side(works, repeats=options.repeats, calls=1, device=device)
    return {
        "settings": settings.describe(),
        "images": len(on.images),
        "ms_per_image": {name: 1e3 * median(each.judged(device)) / len(on.images) for name, each in times.items()},
        "times_as_fast": {name: ratio(times, name, OURS, device) for name in works if name not in (OURS, UNFOLDED)},
        "folding_gains": ratio(times, UNFOLDED, OURS, device),
        "goal": GOALS.get(settings.method, GOAL),
        "left_out": left_out,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs every cell; returns what the JSON has."""
    device, absent = find_device(options.device), missing()
    libraries = [name for name in LIBRARIES if name not in absent]
    with reproducible(options.threads, device):
        on = subject(options, device)
        chosen = [each for each in attacks(options) if not options.attacks or each.method in options.attacks]
        cells = {each.name: cell(each, on, libraries, options) for each in chosen}
        machine = describe_machine(device, 1)
    return {
        "machine": machine,
        "judged_by": "CPU time" if device.type == "cpu" else "wall clock",
        "settings": {name: getattr(options, name) for name in
                     ("dataset", "arch", "images", "jsma_images", "steps", "threads", "repeats", "seed")},
        "cells": cells,
        "not_installed": absent,
        "provenance": provenance("torch", *LIBRARIES),
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The figures, for people; Markdown."""
    settings = ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    lines = [f"{found['machine']}; {settings}; ms by {found['judged_by']}, medians over the rounds", "",
             "| attack | library | ours, ms an image | theirs | times as fast | goal | | by folding |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, each in found["cells"].items():
        ours = each["ms_per_image"][OURS]
        for library, times in each["times_as_fast"].items():
            mark = "" if times >= each["goal"] else "missed"
            lines.append(f"| {name} | {library} | {ours:.3f} | {each['ms_per_image'][library]:.3f} "
                         f"| {times:.2f} | {each['goal']:g} | {mark} | {each['folding_gains']:.2f} |")  # fmt: skip
        if not each["times_as_fast"]:
            lines.append(f"| {name} | none | {ours:.3f} | | | {each['goal']:g} | | {each['folding_gains']:.2f} |")
    lines += [f"\n{name}: {library} left out, since it {why}" for name, each in found["cells"].items()
              for library, why in each["left_out"].items()]  # fmt: skip
    if found["not_installed"]:
        lines.append(f"\nnot installed: {', '.join(found['not_installed'])}; scripts/peers installs them, and "
                     "'.venv-peers/bin/python -m benchmarks.attacks' compares")  # fmt: skip
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto (default)")
    add("--dataset", choices=DATASETS, default="digits", help="(default: digits)")
    add("--arch", help="of the three members (default: cnn on digits, else resnet20)")
    add("--attacks", nargs="+", metavar="METHOD", help="only these, such as cw or jsma-pairs (default: all)")
    add("--images", type=int, metavar="N", help="in a batch, at most 100 of digits (default: 100, else 16)")
    add("--jsma-images", type=int, metavar="N", help="for JSMA, which others do one by one (default: 50, else 2)")
    add("--steps", type=int, metavar="N", help="of C&W and EAD, queries of square (default: 100, else 30)")
    add("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    add("--quick", action="store_true", help="small, to see that it runs; the figures mean nothing")
    add("--seed", type=int, default=0, help="of random images and weights (default: 0)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(words)
    digits = options.dataset == "digits"
    usual = {"arch": "cnn" if digits else "resnet20", "images": 100 if digits else 16,
             "jsma_images": 50 if digits else 2, "steps": 100 if digits else 30}  # fmt: skip
    if options.quick:
        usual |= {"images": 4, "jsma_images": 2, "steps": 3}
        options.repeats = 2
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
