"""Which attacks belong to a run, and on how many images."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from detector.errors import InputError
from training import TrainConfig
from training.attacks import ATTACKS, EAD, FGSM, MIM, PGD, Attack, AutoAttack, CarliniWagner, DetectorAware
from training.paper import accuracies_of
from training.robustness.cost import gradients
from training.robustness.counts import PAPER as PAPER_COUNTS
from training.robustness.counts import QUICK, Counts, kind_of
from training.robustness.gate import Gate
from training.robustness.plan import LABEL, PAPER, TARGET, attack_of, attacks, radii_of, rows_of, table_of, transfers

GATE = Gate(least=-2.5)
CIFAR10 = TrainConfig(dataset="cifar10", arch="resnet20")
JSMA = next(attack_of(row) for row in rows_of(CIFAR10) if row.method == "jsma")


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"dataset": "mnist"}, 2),
        ({}, 2),
        ({"dataset": "cifar100"}, 3),
        ({"adversarial": "pgd"}, 4),
        ({"members": 5}, 5),
        ({"members": 4}, None),
        ({"dataset": "mnist", "adversarial": "fgsm"}, None),
        ({"dataset": "digits"}, None),
        ({"alpha": 1.0, "epochs": 3, "arch": "cnn"}, 2),
    ],
    ids=["mnist", "cifar10", "cifar100", "adversarial", "five", "four", "mnist-adversarial", "digits", "other-setting"],
)
def test_the_table_goes_by_data_members_and_training(changes: dict[str, Any], number: int | None) -> None:
    found = table_of(replace(CIFAR10, **changes))
    assert (None if found is None else found.number) == number


@pytest.mark.parametrize(
    ("changes", "like"),
    [
        ({"members": 4}, ("cifar10", 3, "none")),
        ({"dataset": "cifar100", "members": 5}, ("cifar100", 3, "none")),
        ({"dataset": "mnist", "adversarial": "pgd"}, ("mnist", 3, "none")),
        ({"dataset": "digits"}, ("mnist", 3, "none")),
        ({"dataset": "folder"}, ("cifar10", 3, "none")),
    ],
    ids=["four", "cifar100-five", "mnist-adversarial", "digits", "folder"],
)
def test_without_a_table_the_attacks_are_the_nearest_ones(changes: dict[str, Any], like: tuple[str, int, str]) -> None:
    table = accuracies_of(*like)
    assert table is not None
    assert rows_of(replace(CIFAR10, **changes)) == table.rows


def test_every_attack_runs_in_both_protocols_but_those_that_do_the_same_in_both() -> None:
    jobs = attacks(CIFAR10, PAPER_COUNTS, GATE)
    for row in rows_of(CIFAR10):
        attack = ATTACKS[row.method](**row.parameters)
        found = [(job.aim, job.images) for job in jobs if job.attack == attack]
        aims = [PAPER] if row.method in ("cw", "ead") else [PAPER, LABEL]
        assert found == [(aim, PAPER_COUNTS.of(attack)) for aim in aims]


def test_what_the_paper_does_not_have_is_measured_at_its_radii() -> None:
    jobs = attacks(CIFAR10, QUICK, GATE)
    strong = [job for job in jobs if isinstance(job.attack, (AutoAttack, DetectorAware))]
    radii = radii_of(rows_of(CIFAR10))
    assert radii == [0.01, 0.02, 0.04]
    assert {job.aim for job in strong} == {LABEL}
    assert {job.images for job in strong} == {QUICK.strong}
    assert [job.attack.eps for job in strong if isinstance(job.attack, AutoAttack)] == radii
    knowing = [job.attack for job in strong if isinstance(job.attack, DetectorAware)]
    assert [getattr(attack.attack, "eps", None) for attack in knowing] == radii
    assert {attack.threshold for attack in knowing} == {GATE.threshold}


def test_figure_3_crafts_on_every_member_in_both_modes() -> None:
    jobs = transfers(replace(CIFAR10, members=5), QUICK)
    assert len({(job.attack, job.aim, job.member) for job in jobs}) == len(jobs) == 2 * 2 * 5
    assert {job.attack for job in jobs} == {PGD(eps=0.05), MIM(eps=0.05)}
    assert {job.aim for job in jobs} == {LABEL, TARGET}
    assert {job.member for job in jobs} == set(range(5))
    assert {(job.attack.describe()["steps"], job.attack.describe()["step_size"]) for job in jobs} == {(10, 0.005)}


def test_numbers_of_images_are_the_papers_on_a_gpu_and_fewer_on_a_cpu() -> None:
    on_gpu, on_cpu = (Counts.on(torch.device(name)) for name in ("cuda", "cpu"))
    assert (on_gpu.linf, on_gpu.minimum, on_gpu.jsma) == (10_000, 1_000, 100)
    for name in ("linf", "minimum", "jsma", "strong"):
        assert getattr(on_cpu, name) < getattr(on_gpu, name)
    assert on_cpu.but({"linf": 7, "jsma": None}) == replace(on_cpu, linf=7)


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        (FGSM(eps=0.1), "linf"),
        (PGD(eps=0.1), "linf"),
        (CarliniWagner(c=1.0), "minimum"),
        (EAD(c=1.0), "minimum"),
        (JSMA, "jsma"),
        (AutoAttack(eps=0.1), "strong"),
        *((job.attack, "strong") for job in attacks(CIFAR10, QUICK, GATE) if isinstance(job.attack, DetectorAware)),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_attack_has_a_kind(attack: Attack, kind: str) -> None:
    assert kind_of(attack) == kind


def test_no_image_is_too_few() -> None:
    with pytest.raises(InputError, match="images-jsma: expected at least 1, found 0"):
        QUICK.but({"jsma": 0})


def test_cells_cost_more_from_row_to_row_of_the_table() -> None:
    costs = [gradients(attack, 3 * 32 * 32) for attack in (FGSM(eps=0.1), PGD(eps=0.1), JSMA, CarliniWagner(c=1.0))]
    assert costs == [1, 10, 153, 1000]
    assert all(cheap < dear for cheap, dear in pairwise(costs))
