"""`ledgate train`: an ensemble trained with ADP, in a folder; the same command goes on after a stop."""

import argparse
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from detector.errors import InputError
from training.augment import AUGMENTATIONS
from training.commands.data_root import add_data_root
from training.config import ADVERSARIES, KEEPS, NORMALISATIONS, OPTIMISERS, PRECISIONS, SCHEDULES, TrainConfig
from training.datasets import DATASETS
from training.execution import THREADS
from training.loop import UnevenClasses, train
from training.networks import ARCHITECTURES, check_name
from training.progress import LOGGER
from training.recipes import RECIPES, default_recipe, recipe
from training.run import Run

_SETTINGS: Final = [field.name for field in fields(TrainConfig) if field.name not in ("dataset", "arch")]
_RECIPES: Final = (
    "What is left out is as the recipe has it: 'digits' for those, 'paper' for the paper's tables, 'fast' for a tenth "
    "of its epochs, at the price of about two points of accuracy on CIFAR-10. Defaults are those for photographs; on "
    "MNIST and Fashion-MNIST, 'fast' and 'paper' take fewer epochs and vary nothing. What a recipe has and an option "
    "cannot go with gives way to the option, as milestones do to another schedule."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments: what to train on and into, one for each setting, and how to run."""
    parser.description = (
        "train an ensemble with ADP; the same command goes on where an earlier one stopped or was killed, and gives "
        "the weights that an unbroken run gives."
    )
    add = parser.add_argument
    add("--dataset", choices=sorted(DATASETS), default=TrainConfig.dataset, help="what to train on")
    add_data_root(parser)
    add("--download", action="store_true", help="fetch the data set there first, where it is missing")
    add("--arch", type=_arch, default=None, metavar="NAME",
        help=f"every member's architecture: {', '.join(ARCHITECTURES)}, a classifier of torchvision.models, or your "
             "own as package.module:Name; by default cnn for digits, else resnet20")  # fmt: skip
    add("--recipe", choices=RECIPES, help="settings that go together, which the options below override; "
        "by default digits for digits, else fast")  # fmt: skip
    add("--out", type=Path, required=True, metavar="RUN", help="the folder; an unfinished run in it goes on")
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: a CUDA device where there is one")
    add("--threads", type=int, default=THREADS, metavar="N",
        help="CPU threads; the last bits of the result depend on it")  # fmt: skip
    add("--quiet", action="store_true", help="no bar, and no line for each epoch where there is no terminal")
    add("--json", action="store_true", help="print the result as JSON")
    _add_method(parser)
    _add_recipe(parser)
    _add_speed(parser)


def _add_method(parser: argparse.ArgumentParser) -> None:
    """The settings of the paper's method."""
    setting = _adder(parser.add_argument_group("the method"))
    setting("members", type=int, metavar="K", help="networks in the ensemble, 2 to one less than there are classes")
    setting("alpha", type=float, metavar="A", help="weight of the entropy in Eq. (5); 'ledgate alpha' chooses it")
    setting("beta", type=float, metavar="B",
            help="weight of the log diversity in Eq. (5); with alpha 0 too, members train independently")  # fmt: skip
    setting("temperature", type=float, metavar="T", help="logits are divided by it in training (Appendix B.2)")
    setting("sampled_classes", type=int, metavar="M",
            help="take the entropy over so many other classes, drawn anew each time; 0 is all")  # fmt: skip
    setting("adversarial", choices=ADVERSARIES, help="attack half of each batch, eps in [0.01, 0.05] (Table 4)")
    setting("patience", type=int, metavar="EPOCHS",
            help="freeze a member whose validation loss has not fallen for so long; 0 freezes none")  # fmt: skip
    setting("seed", type=int, metavar="S", help="of weights, shuffles and augmentation")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """The settings that a recipe chooses."""
    setting = _adder(parser.add_argument_group("the recipe", _RECIPES))
    setting("image_size", type=int, metavar="N", help="of folder: stretch every image to N x N; 0: all have one size")
    setting("epochs", type=int, metavar="N", help="how often each image is seen")
    setting(
        "batch_size", type=int, metavar="IMAGES", help="images in one step; with --adversarial 128, as in the paper"
    )
    setting("optimiser", choices=OPTIMISERS, help="sgd has Nesterov momentum 0.9; muon is sgd whose steps of "
            "convolutions are orthogonal, at a norm that stays, which makes a step of a large network on a small batch "
            "several times as long")  # fmt: skip
    setting("learning_rate", type=_rates, metavar="RATE", help="at its highest; or one for each member, with commas")
    setting("schedule", choices=SCHEDULES, help="how the learning rate goes")
    setting("milestones", type=_shares, metavar="SHARES",
            help="of steps: shares of the run after which the rate is a tenth, with commas")  # fmt: skip
    setting("weight_decay", type=float, metavar="C", help="penalty C |w|^2 on the weights of convolutions")
    setting("normalise", choices=NORMALISATIONS, help="by each channel's mean and deviation, or each pixel's mean")
    setting("augment", choices=sorted(AUGMENTATIONS), help="how training images are varied")
    setting("growing", action=argparse.BooleanOptionalAction, help="start with small images, end with whole ones")
    setting("keep", choices=KEEPS, help="the result: the best epoch on the validation images, or the last")


def _add_speed(parser: argparse.ArgumentParser) -> None:
    """The settings that leave the method as it is."""
    setting = _adder(parser.add_argument_group("speed and memory"))
    setting("sequential", action=argparse.BooleanOptionalAction,
            help="one member at a time in each step: the same gradients, less memory, more work")  # fmt: skip
    setting("precision", choices=PRECISIONS, help="of the networks; slow where the processor has no bfloat16")
    setting("compile", action=argparse.BooleanOptionalAction, help="torch.compile: takes minutes, then saves some")


def _adder(group: Any) -> Callable[..., None]:
    """Adds settings to a group, each as the flag of its name; unset, it is the recipe's."""

    def add(name: str, *, help: str, **options: Any) -> None:  # noqa: A002  as argparse calls it
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=name, default=None, help=f"{help} ({_default(name)})", **options
        )

    return add


def _default(name: str) -> str:
    """What a setting is where it is left out: one value, or one for each recipe."""
    default = getattr(TrainConfig, name)
    values = {of: _said(recipe(of, "digits" if of == "digits" else "cifar10").get(name, default)) for of in RECIPES}
    if len(set(values.values())) == 1:
        return f"default: {values[RECIPES[0]]}"
    return f"default: {', '.join(f'{of} {value}' for of, value in values.items())}"


def _said(value: Any) -> str:
    """A setting's value in words."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(f"{share:.3g}" for share in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _arch(text: str) -> str:
    """An architecture's name."""
    try:
        check_name(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("arch: ")) from None
    return text


def _shares(text: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, found {text!r}") from None


def _rates(text: str) -> float | tuple[float, ...]:
    """One learning rate, or several."""
    rates = _shares(text)
    return rates[0] if len(rates) == 1 else rates


def settings(options: argparse.Namespace) -> TrainConfig:
    """The recipe with what the command line says over it."""
    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    dataset = options.dataset
    adversarial = given.get("adversarial", "none") != "none"
    chosen = recipe(options.recipe or default_recipe(dataset), dataset, adversarial=adversarial)
    for gives_way, to in (
        ("milestones", given.get("schedule", "steps") != "steps"),
        ("weight_decay", given.get("optimiser") == "muon"),
        ("normalise", given.get("growing", False)),
    ):
        if to:
            chosen.pop(gives_way, None)
    arch = options.arch or ("cnn" if dataset == "digits" else "resnet20")
    return TrainConfig(**{**chosen, **given, "dataset": dataset, "arch": arch})


def run(options: argparse.Namespace) -> int:
    """Trains, or goes on, or says that there is nothing left to do."""
    config = settings(options)
    done = _epochs_done(options.out)
    with _spoken(log=not (options.quiet or options.json)):
        trained = train(
            config,
            options.out,
            root=options.data_root,
            download=options.download,
            device=options.device,
            progress=not options.quiet,
            threads=options.threads,
        )
    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes speaks for all
        return 0
    _, checkpoint = trained.trained()
    kept = checkpoint.metrics[checkpoint.kept_epoch - 1]
    if options.json:
        print(json.dumps({"path": str(options.out), "trained": checkpoint.epoch - done, **kept}))
        return 0
    members = ", ".join(f"{value:.3f}" for value in kept["member_accuracy"])
    if done == checkpoint.epoch:
        print(f"{options.out}: nothing left to do, all {done} epochs were trained before")
    else:
        print(f"{options.out}: trained epochs {done + 1} to {checkpoint.epoch}, kept epoch {checkpoint.kept_epoch}")
    print(f"validation accuracy {kept['accuracy']:.3f} (members {members}), "
          f"median log diversity {kept['median_log_diversity']:.4f}")  # fmt: skip
    # A root from the environment is the next command's too.
    root = [] if options.data_root is None else ["--data-root", str(options.data_root)]
    print(f"next: {shlex.join(['ledgate', 'export', str(options.out), *root, '--out', 'BUNDLE'])}")
    return 0


@contextmanager
def _spoken(*, log: bool) -> Iterator[None]:
    """Warnings, and the log where it is asked for, as single lines on standard error."""

    def warn(message: Warning | str, *_: object, **__: object) -> None:
        tqdm.write(f"ledgate train: warning: {' '.join(str(message).split())}", file=sys.stderr)

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("ledgate train: %(message)s"))
    level = LOGGER.level
    if log:
        LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UnevenClasses)
            warnings.showwarning = warn
            yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def _epochs_done(path: Path) -> int:
    """Epochs that an earlier process trained."""
    checkpoint = Run.open(path).checkpoint() if (path / "config.json").exists() else None
    return 0 if checkpoint is None else checkpoint.epoch
