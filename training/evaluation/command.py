"""The command that trains what a table lacks."""

import shlex
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from training.config import TrainConfig
from training.evaluation.setting import Setting
from training.recipes import RECIPES, recipe

# What the command says itself, or varies.
_SAID: Final = ("dataset", "arch", "members", "alpha", "beta", "epochs", "seed")


def command(config: TrainConfig, settings: Iterable[Setting], seeds: Iterable[int]) -> str:
    """The command that trains settings as some runs were trained, but for alpha, beta and seed.

    Args:
        config: Of those runs.
        settings: To train.
        seeds: To train them with.
    """
    name, rest = min(((name, _beyond(config, name)) for name in RECIPES), key=lambda found: len(found[1]))
    epochs = config.epochs != _base(config, name).epochs
    words = [".venv/bin/python", "scripts/table1"]
    words += [] if config.dataset == "digits" else ["--data-root", "DATA"]
    words += ["--datasets", config.dataset, "--arch", config.arch, "--members", str(config.members), "--recipe", name]
    words += ["--epochs", str(config.epochs)] if epochs else []
    words += ["--settings", *(setting.name for setting in settings), "--seeds", *map(str, seeds)]
    words += ["--runs", "runs", "--out", "results"]
    words += ["--", *(word for field, value in rest.items() for word in _flag(field, value))] if rest else []
    return shlex.join(words)


def _base(config: TrainConfig, name: str) -> TrainConfig:
    """A recipe as it stands, on the same data and networks."""
    return TrainConfig(dataset=config.dataset, arch=config.arch, members=config.members, **recipe(name, config.dataset))


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
