"""`ledgate attack`: attacked images of a run, a bundle or a server, to calibrate and to report against."""

import argparse
import json
from pathlib import Path
from typing import Any, Final

from ledgate.connection import add_connection
from ledgate.settings import ATTACKS, OPTIONS, explained, flag

# As `training.splits` and `training.datasets` have them, which need torch; a test holds the two together.
SPLITS: Final = ("train", "validation", "calibration", "test")
DATASETS: Final = ("cifar10", "cifar100", "digits", "fashion-mnist", "folder", "mnist")
ROOT_VARIABLE: Final = "LEDGATE_DATA"

_DESCRIPTION: Final = (
    "attack images, to calibrate against. Attacks that follow gradients need a training run; --attack square only "
    "asks, and works on bundles and servers too. What is finished is kept beside the file, and the same command goes "
    "on after a stop."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add("source", metavar="RUN|BUNDLE|HOST:PORT", help="what is attacked: a finished run of 'ledgate train', a bundle, "
        "or a running server")  # fmt: skip
    _add_images(parser)
    _add_attack(parser)
    _add_aim(parser)
    _add_execution(parser)
    add_connection(parser)
    add("--out", type=Path, required=True, metavar="FILE.npz", help="the file to write")
    add("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Attacks."""
    from detector.unfinished import discard, folder_of
    from ledgate.attacking import attacked

    result = attacked(options)
    result.save(options.out)
    discard(folder_of(options.out))
    made_by = result.info["attack"]
    found = made_by["found"]
    if options.json:
        counts = {"clean_correct": found["clean_correct"], "success": found["success"]}
        print(json.dumps({"path": str(options.out), "images": len(result), **counts, **result.info}))
        return 0
    print(f"{options.out}: {made_by['name']} on {len(result)} images; {found['clean_correct']} were classified right "
          f"before, and {found['success']} of those wrong after")  # fmt: skip
    for line in _details(found):
        print(line)
    return 0


def _add_images(parser: argparse.ArgumentParser) -> None:
    """What to start from."""
    group = parser.add_argument_group("the images")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--split", choices=SPLITS, help="attack this part of a data set; needs torch and torchvision")
    source.add_argument("--clean", type=Path, metavar="FILE.npz", help="attack these labelled images")
    add = group.add_argument
    add("--dataset", choices=DATASETS, help="the data set of --split; by default the training run's own")
    add("--data-root", type=Path, metavar="DIR",
        help="where data sets lie, as torchvision lays them out; for folder, a folder of images for each class, or "
             f"such folders in train and test; by default ${ROOT_VARIABLE}, or data")  # fmt: skip
    add("--n", type=int, metavar="IMAGES", help="attack so many of them at random; by default all")
    add("--seed", type=int, default=0, help="of that choice, of random targets, and of the attack's own draws")


def _add_attack(parser: argparse.ArgumentParser) -> None:
    """Which attack, and its settings; each option names the attacks that have it."""
    group = parser.add_argument_group("the attack")
    group.add_argument("--attack", choices=sorted(ATTACKS), required=True, help="against all members at once")
    for name, option in OPTIONS.items():
        if any(name in own for own in ATTACKS.values()):
            group.add_argument(flag(name), type=option.type, metavar=option.metavar, help=explained(name))


def _add_aim(parser: argparse.ArgumentParser) -> None:
    """What the attack is to reach, and through whom."""
    group = parser.add_argument_group("what it aims at")
    add = group.add_argument
    add("--loss", choices=("label", "paper"),
        help="away from the true label, or as in the paper's own code, from the model's prediction and with the "
             "softmax taken twice; by default label")  # fmt: skip
    add("--target", type=_target, metavar="random|next|CLASS",
        help="towards another class drawn for each image, the one after the true label, or this one; by default any "
             "but the true one")  # fmt: skip
    add("--member", type=int, metavar="K", help="craft against this member alone, from 0; success is the ensemble's "
        "mistake all the same")  # fmt: skip
    add("--substitute", type=Path, metavar="RUN", help="craft on this training run, then measure what that does to "
        "the source")  # fmt: skip
    add("--aware-of", type=Path, metavar="CALIBRATION.json", help="an attacker who knows this calibration's score and "
        "threshold, and wants to stay unflagged")  # fmt: skip


def _add_execution(parser: argparse.ArgumentParser) -> None:
    """Where and how it runs."""
    group = parser.add_argument_group("how it runs")
    add = group.add_argument
    add(
        "--batch-size",
        type=int,
        metavar="IMAGES",
        help="images at a time; by default 256, on a GPU 1,024, and 64 where it only asks",
    )
    add("--device", metavar="auto|cpu|cuda[:i]", help="of a run or a bundle; by default auto")
    add("--threads", type=int, metavar="N",
        help="CPU threads of a run or a bundle, on which the last bits of a run's result depend; by default 1 for a "
             "run and all for a bundle")  # fmt: skip
    add("--budget", type=int, metavar="N", help="of square: most queries for all images together; the attack ends "
        "with what it has")  # fmt: skip
    add("--model", metavar="NAME", help="of a server with several; by default its default")
    add("--timeout-s", type=float, metavar="S", help="for a server's answer to each batch, in seconds; by default 30")


def _target(word: str) -> str | int:
    """A target as it is typed."""
    if word in ("random", "next"):
        return word
    if word.isdecimal():
        return int(word)
    raise argparse.ArgumentTypeError(f"expected random, next or the number of a class, found {word!r}")


def _details(found: dict[str, Any]) -> list[str]:
    """What more is known, a line each."""
    lines = []
    if "evaded" in found:
        lines.append(f"{found['evaded']} of these are not flagged by the detector")
    if found["norms_of_successes"]:
        of = found["norms_of_successes"]
        lines.append(f"their changes, on average: {of['l0']:.1%} of the values, L1 {of['l1']:.3g}, L2 {of['l2']:.3g}, "
                     f"Linf {of['linf']:.3g}")  # fmt: skip
    if "target_reached" in found:
        lines.append(f"the target was reached on {found['target_reached']}")
    if "queries" in found:
        median = found["queries"]["median_of_successes"]
        of_successes = "" if median is None else f"; half of the successes took at most {median:g}"
        lines.append(f"queries: {found['queries']['total']}{of_successes}")
    budget = found.get("budget")
    if budget and budget["ended"]:
        left_out = f"; {budget['left_out']} images were never asked about, and are left out"
        lines.append(f"the budget of {budget['queries']} ended the attack{left_out if budget['left_out'] else ''}")
    return lines
