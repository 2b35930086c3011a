"""Recipes hold the numbers they are named after."""

from dataclasses import replace
from typing import Any

import pytest

from detector.errors import InputError
from training import TrainConfig
from training.datasets import DATASETS
from training.optimiser import schedule
from training.recipes import RECIPES, default_recipe, recipe


def config(name: str, dataset: str, **settings: Any) -> TrainConfig:
    return TrainConfig(**{"dataset": dataset, **recipe(name, dataset), **settings})


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_every_recipe_makes_settings_for_every_data_set(name: str, dataset: str) -> None:
    assert config(name, dataset).dataset == dataset


@pytest.mark.parametrize(
    ("dataset", "table"),
    [
        ("cifar10", {0: 1e-3, 1: 1e-3, 119: 1e-3, 120: 1e-4, 159: 1e-4, 160: 1e-5, 179: 1e-5}),
        ("cifar100", {0: 1e-3, 119: 1e-3, 120: 1e-4, 160: 1e-5}),
        ("mnist", {0: 1e-3, 14: 1e-3, 15: 1e-4, 29: 1e-4, 30: 1e-5, 39: 1e-5}),
    ],
)
def test_the_papers_learning_rates_by_epoch(dataset: str, table: dict[int, float]) -> None:
    """At an epoch's first step and at its last, as the trainer counts them: 703 steps, as on CIFAR-10."""
    made = config("paper", dataset)
    steps = 703
    for epoch, expected in table.items():
        for step in (0, steps - 1):
            progress = (epoch * steps + step) / (made.epochs * steps)
            assert made.learning_rates[0] * schedule(made.schedule, progress, made.milestones) == pytest.approx(
                expected
            )


@pytest.mark.parametrize(
    ("dataset", "epochs", "augment"),
    [("cifar10", 180, "shift-flip"), ("cifar100", 180, "shift-flip"), ("mnist", 40, "none")],
)
def test_the_papers_other_numbers(dataset: str, epochs: int, augment: str) -> None:
    made = config("paper", dataset)
    assert (made.epochs, made.augment) == (epochs, augment)
    assert (made.optimiser, made.batch_size, made.weight_decay, made.normalise) == ("adam", 64, 1e-4, "pixel")
    assert (made.keep, made.growing, made.precision) == ("best", False, "float32")


@pytest.mark.parametrize("name", RECIPES)
def test_adversarial_training_takes_the_papers_larger_batches(name: str) -> None:
    larger = config(name, "cifar10", **recipe(name, "cifar10", adversarial=True))
    assert larger.batch_size == 128
    assert replace(larger, batch_size=64) == config(name, "cifar10")


@pytest.mark.parametrize("dataset", ["cifar10", "mnist"])
def test_fast_takes_a_tenth_of_the_papers_epochs(dataset: str) -> None:
    fast, paper = config("fast", dataset), config("paper", dataset)
    assert 10 * fast.epochs == paper.epochs
    assert fast.augment == paper.augment
    assert (fast.optimiser, fast.schedule, fast.weight_decay) == ("muon", "one-cycle", 0)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion-mnist"])
def test_no_recipe_mirrors_digits(name: str, dataset: str) -> None:
    assert config(name, dataset).augment != "shift-flip"


def test_digits_are_trained_by_the_defaults() -> None:
    assert recipe("digits", "digits") == {}
    assert default_recipe("digits") == "digits"
    assert {default_recipe(dataset) for dataset in DATASETS if dataset != "digits"} == {"fast"}


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(InputError, match="recipe: expected one of digits, fast, paper, found 'slow'"):
        recipe("slow", "digits")
