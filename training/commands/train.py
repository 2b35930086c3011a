"""`ledgate train`: an ensemble trained with ADP, in a folder; the same command goes on after a stop."""

import argparse
import json
from dataclasses import fields
from pathlib import Path

from training.augment import AUGMENTATIONS
from training.config import TrainConfig
from training.datasets import DATASETS
from training.execution import THREADS
from training.loop import train
from training.networks import ARCHITECTURES
from training.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    default = TrainConfig()
    add = parser.add_argument
    add("--dataset", choices=sorted(DATASETS), default=default.dataset, help="what to train on")
    add("--arch", choices=sorted(ARCHITECTURES), default=default.arch, help="every member's architecture")
    add("--members", type=int, default=default.members, metavar="K",
        help="networks in the ensemble, 2 to one less than there are classes")  # fmt: skip
    add("--alpha", type=float, default=default.alpha, metavar="A", help="weight of the entropy in Eq. (5)")
    add("--beta", type=float, default=default.beta, metavar="B",
        help="weight of the log diversity in Eq. (5); with alpha 0 too, members train independently")  # fmt: skip
    add("--epochs", type=int, default=default.epochs, metavar="N", help="how often each image is seen")
    add("--batch-size", type=int, default=default.batch_size, metavar="IMAGES", help="images in one step")
    add("--learning-rate", type=float, default=default.learning_rate, metavar="RATE", help="Adam's, at the start")
    add("--augment", choices=sorted(AUGMENTATIONS), default=default.augment, help="how training images are varied")
    add("--seed", type=int, default=default.seed, help="of weights, shuffles and augmentation")
    add("--threads", type=int, default=THREADS, metavar="N",
        help="CPU threads; the last bits of the result depend on it")  # fmt: skip
    add("--out", type=Path, required=True, metavar="RUN", help="the folder; an unfinished run in it goes on")
    add("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Trains, or goes on, or says that there is nothing left to do."""
    config = TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
    done = _epochs_done(options.out)
    trained = train(config, options.out, threads=options.threads)
    _, checkpoint = trained.trained()
    last = checkpoint.metrics[-1]
    if options.json:
        print(json.dumps({"path": str(options.out), "trained": config.epochs - done, **last}))
        return 0
    members = ", ".join(f"{value:.3f}" for value in last["member_accuracy"])
    if done == config.epochs:
        print(f"{options.out}: nothing left to do, all {done} epochs were trained before")
    else:
        print(f"{options.out}: trained epochs {done + 1} to {config.epochs}")
    print(f"validation accuracy {last['accuracy']:.3f} (members {members}), "
          f"median log diversity {last['median_log_diversity']:.4f}")  # fmt: skip
    print(f"next: ledgate export {options.out} --out BUNDLE")
    return 0


def _epochs_done(path: Path) -> int:
    """Epochs that an earlier process trained."""
    checkpoint = Run.open(path).checkpoint() if (path / "config.json").exists() else None
    return 0 if checkpoint is None else checkpoint.epoch
