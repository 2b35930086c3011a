"""Strengths begin above the paper's."""

from typing import Any

import pytest

from training import TrainConfig
from training.detection.ladder import climb, ladders
from training.robustness.plan import rows_of

SEVEN = {"fgsm", "bim", "pgd", "mim", "jsma", "cw", "ead"}
DATASETS = [("digits", "none"), ("mnist", "none"), ("cifar10", "none"), ("cifar100", "none"), ("cifar10", "pgd")]


def config_of(dataset: str, adversarial: str) -> TrainConfig:
    return TrainConfig(dataset=dataset, adversarial=adversarial)


def size(attack: Any) -> tuple[float, ...]:
    """What makes it strong."""
    names = ("gamma", "theta", "eps", "steps", "c") if hasattr(attack, "eps") else ("gamma", "theta", "c")
    return tuple(getattr(attack, name) for name in names if hasattr(attack, name))


@pytest.mark.parametrize(("dataset", "adversarial"), DATASETS)
def test_all_of_the_papers_attacks_go_up_from_above_its_table(dataset: str, adversarial: str) -> None:
    config = config_of(dataset, adversarial)
    found = ladders(config)
    assert set(found) == SEVEN
    for method, ladder in found.items():
        sizes = [size(attack) for attack in ladder]
        assert sizes == sorted(set(sizes)), method
        printed = [row.parameters for row in rows_of(config) if row.method == method]
        for parameters in printed:
            assert sizes[0][: len(parameters)] > tuple(
                parameters[name] for name in ("gamma", "theta", "eps", "c") if name in parameters
            )


def test_a_radius_ends_where_every_image_is_reached() -> None:
    assert [attack.eps for attack in ladders(config_of("mnist", "none"))["fgsm"]] == [0.4, 0.8, 1.0]  # type: ignore[attr-defined]


def test_the_last_rung_of_what_takes_steps_is_the_largest_radius_in_more_of_them() -> None:
    *_, ten, forty = ladders(config_of("cifar10", "none"))["bim"]
    assert (ten.eps, ten.steps, forty.eps, forty.steps) == (0.16, 10, 0.16, 40)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("dataset", "eps"), [("cifar10", 8 / 255), ("mnist", 0.15)])
def test_the_radius_of_who_aims_at_a_score(dataset: str, eps: float) -> None:
    assert climb(config_of(dataset, "none")).eps == eps  # type: ignore[attr-defined]
