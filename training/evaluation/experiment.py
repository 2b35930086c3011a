"""Runs that differ in nothing but the regulariser's weights and the seed: what a table may compare."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from detector.errors import InputError
from training.config import TrainConfig
from training.evaluation.result import Evaluation, Result
from training.evaluation.setting import Setting
from training.paper import TITLES

_FREE: Final = ("alpha", "beta", "seed")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table's runs.

    Attributes:
        slug: For file names; no two experiments have the same.
        settings: The runs of each setting, by seed; the baseline comes first.
    """

    slug: str
    settings: Mapping[Setting, tuple[Evaluation, ...]]

    @property
    def evaluations(self) -> list[Evaluation]:
        """All runs."""
        return [run for runs in self.settings.values() for run in runs]

    @property
    def config(self) -> TrainConfig:
        """The settings of one of the runs; they share all but alpha, beta and seed."""
        return self.evaluations[0].run.config

    @property
    def title(self) -> str:
        """For a heading."""
        config = self.config
        epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
        return f"{TITLES.get(config.dataset, config.dataset)}: {config.members} x {config.arch}, {epochs}"

    def results(self, setting: Setting) -> list[Result]:
        """The figures of a setting's runs; none where it was not run."""
        return [evaluation.result for evaluation in self.settings.get(setting, ())]

    def first(self) -> dict[Setting, Evaluation]:
        """Of each setting the run with the lowest seed: the one that figures show."""
        return {setting: runs[0] for setting, runs in self.settings.items()}


def experiments(evaluations: Iterable[Evaluation]) -> list[Experiment]:
    """Sorts runs into experiments, by data set and settings.

    Raises:
        InputError: The same training twice, which would count one seed as two.
    """
    groups: dict[str, dict[Setting, dict[int, Evaluation]]] = {}
    for evaluation in evaluations:
        result = evaluation.result
        seeds = groups.setdefault(_shared(result.config), {}).setdefault(result.setting, {})
        other = seeds.setdefault(result.seed, evaluation)
        if other is not evaluation:
            raise InputError(
                f"{evaluation.run.path}: expected runs that differ in settings or seed, found the settings and "
                f"seed of {other.run.path}"
            )
    found: list[Experiment] = []
    for shared in sorted(groups, key=_order):
        dataset = json.loads(shared)["dataset"]
        number = 1 + sum(experiment.config.dataset == dataset for experiment in found)
        found.append(
            Experiment(
                slug=dataset if number == 1 else f"{dataset}-{number}",
                settings={
                    setting: tuple(seeds[seed] for seed in sorted(seeds))
                    for setting, seeds in sorted(groups[shared].items())
                },
            )
        )
    return found


def _shared(config: Mapping[str, Any]) -> str:
    """All settings but those that vary within an experiment, to compare."""
    return json.dumps({name: config[name] for name in sorted(config) if name not in _FREE})


def _order(shared: str) -> tuple[str, int, str]:
    """By data set, longest training first."""
    config = json.loads(shared)
    return config["dataset"], -config["epochs"], shared
