"""`ledgate attack`: attacked images of a run, to calibrate and to report against."""

import argparse
import json
from pathlib import Path

from detector.errors import InputError
from detector.imageset import ImageSet
from training.attacked import BATCH_SIZE, attack
from training.attacks import ATTACKS, FGSM, PGD, IteratedAttack, LinfAttack
from training.commands.data_root import add_data_root
from training.datasets import DATASETS, load
from training.execution import THREADS
from training.run import Run
from training.splits import SPLITS, sample, take


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add = parser.add_argument
    add("run_folder", type=Path, metavar="RUN", help="a finished run of 'ledgate train'")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--split", choices=SPLITS, help="attack this part of the data set")
    source.add_argument("--clean", type=Path, metavar="FILE.npz", help="attack these labelled images")
    add("--dataset", choices=sorted(DATASETS), help="the data set of --split; by default the run's own")
    add_data_root(parser)
    add("--n", type=int, metavar="IMAGES", help="attack so many of them at random; by default all")
    add("--seed", type=int, default=0, help="of that choice, and of PGD's starting points")
    add("--attack", choices=sorted(ATTACKS), required=True, help="against all members at once")
    add("--eps", type=float, required=True, metavar="E", help="largest change of a pixel, in units of [0, 1]")
    add("--steps", type=int, metavar="N", help="of bim and pgd; by default 10, as in the paper")
    add("--step-size", type=float, metavar="S", help="of bim and pgd, in units of [0, 1]; by default eps / steps")
    add("--batch-size", type=int, default=BATCH_SIZE, metavar="IMAGES", help="images at a time")
    add("--threads", type=int, default=THREADS, metavar="N",
        help="CPU threads; the last bits of the result depend on it")  # fmt: skip
    add("--out", type=Path, required=True, metavar="FILE.npz", help="the file to write")
    add("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Attacks."""
    trained = Run.open(options.run_folder)
    clean = sample(_clean(options, trained), options.n, seed=options.seed)
    attacked = attack(trained, clean, _settings(options), batch_size=options.batch_size, threads=options.threads)
    attacked.save(options.out)
    assert attacked.clean_correct is not None
    assert attacked.success is not None
    right, fooled = int(attacked.clean_correct.sum()), int(attacked.success.sum())
    if options.json:
        result = {"path": str(options.out), "images": len(attacked), "clean_correct": right, "success": fooled}
        print(json.dumps({**result, **attacked.info}))
    else:
        name = attacked.info["attack"]["name"]
        print(f"{options.out}: {name} on {len(attacked)} images; {right} were classified right before, "
              f"and {fooled} of those wrong after")  # fmt: skip
    return 0


def _clean(options: argparse.Namespace, trained: Run) -> ImageSet:
    """What to start from."""
    if options.clean is None:
        name = options.dataset or trained.config.dataset
        size = trained.config.image_size if name == trained.config.dataset else 0
        dataset = load(name, root=options.data_root, image_size=size)
        checkpoint = trained.checkpoint()
        if name == trained.config.dataset and checkpoint is not None:
            checkpoint.check_listing(dataset.listing)
        return take(dataset, options.split)
    if options.dataset is not None:
        raise InputError(f"--dataset: expected with --split only, found {options.dataset!r} with --clean")
    return ImageSet.load(options.clean)


def _settings(options: argparse.Namespace) -> LinfAttack:
    """The attack with what was given; its own defaults for the rest."""
    kind = ATTACKS[options.attack]
    if kind is FGSM:
        for option in ("steps", "step_size"):
            if getattr(options, option) is not None:
                raise InputError(f"--{option.replace('_', '-')}: expected for bim and pgd only, found with fgsm")
        return FGSM(eps=options.eps)
    given = {} if options.steps is None else {"steps": options.steps}
    if kind is PGD:
        given["seed"] = options.seed
    assert issubclass(kind, IteratedAttack)
    return kind(eps=options.eps, step_size=options.step_size, **given)
