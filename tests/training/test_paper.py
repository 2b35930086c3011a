"""The paper's figures, against its own lines."""

import re

import pytest

from training.attacks import ATTACKS
from training.paper import ADP_2_0, ADP_2_05, BASELINE, TABLES, Accuracies, Row, accuracies_of

# As they are printed: parameter and figures, of MNIST or K = 3 first.
TABLE2 = {
    "fgsm": ["0.1 78.3 95.5 96.3 | 0.02 36.5 57.4 61.7", "0.2 21.5 50.6 52.8 | 0.04 19.4 41.9 46.2"],
    "pgd": ["0.1 50.7 73.4 82.8 | 0.01 23.4 43.2 48.4", "0.15 6.3 36.2 41.0 | 0.02 6.6 26.8 30.4"],
    "jsma": ["0.3 84.0 88.0 95.0 | 0.05 29.5 33.0 43.5", "0.6 74.0 85.0 91.0 | 0.1 27.5 32.0 37.0"],
    "cw": [
        "0.1 91.6 95.9 97.3 | 0.001 71.3 76.3 80.6",
        "1.0 30.6 75.0 78.1 | 0.01 45.2 50.3 54.9",
        "10.0 5.9 20.2 23.8 | 0.1 18.8 19.2 25.6",
    ],
    "ead": ["5.0 29.8 91.3 93.4 | 1.0 17.5 64.5 67.3", "10.0 7.3 87.4 89.5 | 5.0 2.4 23.4 29.6"],
}


def table(dataset: str, members: int = 3, adversarial: str = "none") -> Accuracies:
    found = accuracies_of(dataset, members, adversarial)
    assert found is not None
    return found


def line(row: Row) -> list[float]:
    """What the paper varies, and its figures."""
    return [next(iter(row.parameters.values())), *row.accuracies.values()]


@pytest.mark.parametrize("method", TABLE2)
def test_table_2_is_as_printed(method: str) -> None:
    printed = [[[float(word) for word in half.split()] for half in text.split("|")] for text in TABLE2[method]]
    for half, dataset in enumerate(("mnist", "cifar10")):
        rows = [row for row in table(dataset).rows if row.method == method]
        assert [line(row) for row in rows] == [both[half] for both in printed]
        assert all(list(row.accuracies) == [BASELINE, ADP_2_0, ADP_2_05] for row in rows)


@pytest.mark.parametrize(
    ("found", "printed"),
    [
        (table("cifar100").rows[3].accuracies, {BASELINE: 11.7, ADP_2_05: 18.3}),
        (table("cifar10", adversarial="fgsm").rows[0].accuracies, {BASELINE: 39.3, ADP_2_05: 56.1}),
        (table("cifar10", adversarial="pgd").rows[3].accuracies, {BASELINE: 32.7, ADP_2_05: 38.8}),
        (table("cifar10", members=5).rows[5].accuracies, {BASELINE: 20.4, ADP_2_05: 65.3}),
        (table("cifar10", members=5).normal, {BASELINE: 93.6, ADP_2_05: 93.8}),
    ],
    ids=["table-3", "table-4-fgsm", "table-4-pgd", "table-5", "table-5-normal"],
)
def test_tables_3_to_5_are_as_printed(found: dict[object, float], printed: dict[object, float]) -> None:
    assert dict(found) == printed


def test_what_the_paper_keeps_fixed_is_with_each_attack() -> None:
    rows = [(found.dataset, row) for found in TABLES for row in found.rows]
    assert {row.parameters["beta"] for _, row in rows if row.method == "ead"} == {0.01}
    steps = {(dataset, row.parameters["theta"]) for dataset, row in rows if row.method == "jsma"}
    assert steps == {("mnist", 0.2), ("cifar10", 0.1)}


def test_each_ensemble_has_one_table() -> None:
    keys = [(found.dataset, found.members, found.adversarial) for found in TABLES]
    assert len(set(keys)) == len(keys)
    assert [accuracies_of(*key) for key in keys] == list(TABLES)
    assert accuracies_of("cifar10", 4, "none") is None


@pytest.mark.parametrize("found", TABLES, ids=lambda found: re.sub(r"\W", "", f"{found.number}{found.dataset}"))
def test_every_row_is_an_attack_of_ours(found: Accuracies) -> None:
    for row in found.rows:
        described = ATTACKS[row.method](**row.parameters).describe()
        assert dict(row.parameters).items() <= described.items()
