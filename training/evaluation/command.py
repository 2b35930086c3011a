"""The command that trains and measures what a table lacks."""

import shlex
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from training.config import TrainConfig
from training.evaluation.setting import Setting
from training.recipes import RECIPES, recipe

# What `ledgate evaluate` measures for the paper's tables.
PARTS: Final = ("errors", "robustness", "transfer")
# And what it measures when it is asked for by name: no table of the paper rests on it.
DETECTION: Final = "detection"

# What the command says itself, or varies.
_SAID: Final = ("dataset", "arch", "members", "alpha", "beta", "adversarial", "epochs", "seed")


def command(config: TrainConfig, settings: Iterable[Setting], seeds: Iterable[int], parts: Iterable[str] = ()) -> str:
    """The command that trains settings as some runs were trained, but for alpha, beta and seed, and evaluates them.

    Args:
        config: Of those runs.
        settings: To train.
        seeds: To train them with.
        parts: Of the evaluation; by default its own default.
    """
    name, rest = min(((name, _beyond(config, name)) for name in RECIPES), key=lambda found: len(found[1]))
    epochs = config.epochs != _base(config, name).epochs
    words = [".venv/bin/python", "scripts/table1"]
    words += [] if config.dataset == "digits" else ["--data-root", "DATA"]
    words += ["--datasets", config.dataset, "--arch", config.arch, "--members", str(config.members), "--recipe", name]
    words += ["--adversarial", config.adversarial] if config.adversarial != "none" else []
    words += ["--epochs", str(config.epochs)] if epochs else []
    words += ["--settings", *(setting.name for setting in settings), "--seeds", *map(str, seeds)]
    words += ["--parts", *parts] if (parts := tuple(parts)) else []
    words += ["--runs", "runs", "--out", "results"]
    words += ["--", *(word for field, value in rest.items() for word in _flag(field, value))] if rest else []
    return shlex.join(words)


def shell(line: str) -> str:
    """A command to copy, in Markdown."""
    return f"```sh\n{line}\n```"


def _base(config: TrainConfig, name: str) -> TrainConfig:
    """A recipe as it stands, on the same data and networks."""
    values = recipe(name, config.dataset, adversarial=config.adversarial != "none")
    return TrainConfig(dataset=config.dataset, arch=config.arch, members=config.members, **values)


def _beyond(config: TrainConfig, name: str) -> dict[str, Any]:
    """The settings that are not the recipe's."""
    base = asdict(_base(config, name))
    return {field: value for field, value in asdict(config).items() if field not in _SAID and value != base[field]}


def _flag(field: str, value: Any) -> list[str]:
    """A setting as an option of `ledgate train`; no milestones are what every schedule but one has anyway."""
    flag = f"--{field.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, tuple):
        return [flag, ",".join(map(str, value))] if value else []
    return [flag, str(value)]
