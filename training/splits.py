"""Which image is for what: four disjoint parts of a data set.

- train: the weights are fitted on these.
- validation: watched during training, to choose recipes.
- calibration: the threshold is chosen on these; never seen in training.
- test: for reporting, and for nothing else.

The parts depend on the data set and on a seed of their own, not on a run's seed: two runs with
different seeds agree on what is test.
"""

from typing import Final

import numpy as np

from detector.errors import InputError, SettingError
from detector.imageset import ImageSet
from detector.prediction import Ints
from training.datasets import Dataset

SPLITS: Final = ("train", "validation", "calibration", "test")
SPLIT_SEED: Final = 0

# The share of each class; the rest is for training. A data set that brings its own test images is a large one: a
# twentieth of what remains is enough to calibrate with.
_SHARES: Final = {"test": 0.2, "calibration": 0.2, "validation": 0.05}
_SHARES_BESIDE_TEST: Final = {"calibration": 0.05, "validation": 0.05}
# Nor does a part need more images than this, which tell a rate to half a percent; and they fit into memory.
_MOST: Final = 10_000


def split_rows(dataset: Dataset, *, seed: int = SPLIT_SEED) -> dict[str, Ints]:
    """The rows of each part: stratified by class, disjoint, together everything.

    Args:
        dataset: What to split.
        seed: Of the split.

    Returns:
        For each name in `SPLITS`, the rows of the data set, ascending.
    """
    rng = np.random.default_rng([seed])
    own_test = np.zeros(len(dataset), dtype=np.bool_)
    shares = _SHARES if dataset.test_rows is None else _SHARES_BESIDE_TEST
    if dataset.test_rows is not None:
        own_test[dataset.test_rows] = True
    parts: dict[str, list[Ints]] = {name: [] for name in SPLITS}
    parts["test"].append(np.flatnonzero(own_test))
    shared = np.flatnonzero(~own_test)
    most = _MOST / max(len(shared), 1)
    for of_class in _by_class(shared, dataset.labels[shared], len(dataset.class_names)):
        rows = rng.permutation(of_class)
        start = 0
        for name, share in shares.items():
            stop = start + round(min(share, most) * len(rows))
            parts[name].append(rows[start:stop])
            start = stop
        parts["train"].append(rows[start:])
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}


def _by_class(rows: Ints, labels: Ints, classes: int) -> list[Ints]:
    """The rows of each class, in their order; one sort, since there may be a thousand classes of a thousand rows."""
    order = np.argsort(labels, kind="stable")
    return np.split(rows[order], np.searchsorted(labels[order], np.arange(1, classes)))


def take(dataset: Dataset, split: str, *, seed: int = SPLIT_SEED) -> ImageSet:
    """The images of one part, with their labels and the rows they came from.

    Args:
        dataset: What to take from.
        split: One of `SPLITS`.
        seed: Of the split.

    Raises:
        InputError: No part of that name, or no images in it, since the data set is too small to have any.
    """
    if split not in SPLITS:
        raise SettingError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    rows = split_rows(dataset, seed=seed)[split]
    if not len(rows):
        raise InputError(f"{dataset.name}: expected images for {split}, found too few to share out; with a dozen of "
                         "each class every part has some")  # fmt: skip
    return ImageSet(
        images=dataset.images[rows],
        labels=dataset.labels[rows],
        source_index=rows,
        info={"dataset": dataset.name, "split": split, **({"listing": dataset.listing} if dataset.listing else {})},
    )
