"""Which image is for what: the parts of data sets with and without test images of their own."""

import dataclasses

import numpy as np
import pytest

from detector.errors import InputError
from detector.prediction import Ints
from training.datasets import Dataset
from training.splits import SPLITS, split_rows, take


def made(labels: Ints, test_rows: Ints | None = None) -> Dataset:
    """A data set with these labels, whose images take no memory."""
    pixels = np.broadcast_to(np.zeros((), np.uint8), (len(labels), 1, 1, 1))
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(name="made", images=pixels, labels=labels, class_names=names, test_rows=test_rows)


def uneven(count: int, classes: int) -> Ints:
    """Labels in no order, of which there are more the higher they are."""
    rng = np.random.default_rng(0)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    return rng.choice(classes, size=count, p=share)


def twin(dataset: Dataset) -> dict[str, list[int]]:
    """The rule, written slowly: each class is shuffled, and dealt out test first."""
    rng = np.random.default_rng([0])
    own = set() if dataset.test_rows is None else set(dataset.test_rows.tolist())
    shares = {"calibration": 0.05, "validation": 0.05} if own else {"test": 0.2, "calibration": 0.2, "validation": 0.05}
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    parts["test"] += own
    for label in range(len(dataset.class_names)):
        rows = [row for row in range(len(dataset)) if dataset.labels[row] == label and row not in own]
        rows = [int(row) for row in rng.permutation(rows)]
        size = len(rows)
        for name, share in shares.items():
            count = round(share * size)
            parts[name] += rows[:count]
            rows = rows[count:]
        parts["train"] += rows
    return {name: sorted(rows) for name, rows in parts.items()}


WHOLE = made(uneven(2000, 5))
OWN = dataclasses.replace(WHOLE, test_rows=np.arange(1500, 2000))
SCATTERED = dataclasses.replace(WHOLE, test_rows=np.random.default_rng(3).permutation(2000)[:300])


@pytest.mark.parametrize("dataset", [WHOLE, OWN, SCATTERED], ids=["whole", "own", "scattered"])
def test_the_parts_are_those_of_the_slow_rule(dataset: Dataset) -> None:
    found = split_rows(dataset)
    assert {name: rows.tolist() for name, rows in found.items()} == twin(dataset)


@pytest.mark.parametrize("dataset", [WHOLE, OWN, SCATTERED], ids=["whole", "own", "scattered"])
def test_parts_are_disjoint_and_together_everything(dataset: Dataset) -> None:
    parts = split_rows(dataset)
    assert sorted(np.concatenate([parts[name] for name in SPLITS]).tolist()) == list(range(len(dataset)))


@pytest.mark.parametrize("dataset", [OWN, SCATTERED], ids=["own", "scattered"])
def test_the_authors_test_images_are_the_test_part_and_nothing_else_is(dataset: Dataset) -> None:
    assert dataset.test_rows is not None
    assert split_rows(dataset)["test"].tolist() == sorted(dataset.test_rows.tolist())


def test_beside_test_images_a_twentieth_each_is_set_aside() -> None:
    sizes = made(np.arange(60_000) % 10, test_rows=np.arange(50_000, 60_000))
    assert {name: len(rows) for name, rows in split_rows(sizes).items()} == {
        "train": 45_000,
        "validation": 2_500,
        "calibration": 2_500,
        "test": 10_000,
    }


@pytest.mark.parametrize("name", SPLITS)
def test_every_class_has_its_share(name: str) -> None:
    labels = WHOLE.labels[split_rows(WHOLE)[name]]
    share = np.bincount(labels, minlength=5) / np.bincount(WHOLE.labels)
    assert np.ptp(share) < 0.01


def test_a_class_that_is_missing_in_training_is_no_obstacle() -> None:
    parts = split_rows(dataclasses.replace(WHOLE, test_rows=np.flatnonzero(WHOLE.labels == 4)))
    assert 4 not in WHOLE.labels[parts["train"]]
    assert len(parts["calibration"]) > 0


def test_of_many_images_only_so_many_are_for_measuring() -> None:
    parts = split_rows(made(np.arange(1_000_000) % 1000))
    assert {name: len(rows) for name, rows in parts.items()} == {
        "train": 970_000,
        "validation": 10_000,
        "calibration": 10_000,
        "test": 10_000,
    }
    assert all((np.bincount(parts[name] % 1000) == 10).all() for name in SPLITS if name != "train")


def test_classes_of_too_few_images_leave_a_part_empty_which_is_said() -> None:
    few = made(np.arange(30) % 3)
    with pytest.raises(InputError, match="made: expected images for validation, found too few to share out"):
        take(few, "validation")
    assert len(take(made(np.arange(36) % 3), "validation")) == 3


def test_a_listing_goes_with_the_images() -> None:
    assert take(dataclasses.replace(WHOLE, listing="abc"), "test").info == {
        "dataset": "made",
        "split": "test",
        "listing": "abc",
    }
