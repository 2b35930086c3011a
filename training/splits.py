"""Which image is for what: four disjoint parts of a data set.

- train: the weights are fitted on these.
- validation: watched during training, to choose recipes.
- calibration: the threshold is chosen on these; never seen in training.
- test: for reporting, and for nothing else.

The parts depend on the data set and on a seed of their own, not on a run's seed: two runs with
different seeds agree on what is test.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from detector.errors import InputError
from detector.imageset import ImageSet
from detector.prediction import Ints
from training.datasets import Dataset

SPLITS: Final = ("train", "validation", "calibration", "test")
SPLIT_SEED: Final = 0

# The share of each class; the rest is for training. Where a data set brings its own test images, those are the test
# part, and the other shares are of what remains.
_SHARES: Final = {"test": 0.2, "calibration": 0.2, "validation": 0.05}


def split_rows(dataset: Dataset, *, seed: int = SPLIT_SEED) -> dict[str, Ints]:
    """The rows of each part: stratified by class, disjoint, together everything.

    Args:
        dataset: What to split.
        seed: Of the split.

    Returns:
        For each name in `SPLITS`, the rows of the data set, ascending.
    """
    rng = np.random.default_rng([seed])
    own_test = np.isin(np.arange(len(dataset)), [] if dataset.test_rows is None else dataset.test_rows)
    parts: dict[str, list[Ints]] = {name: [] for name in SPLITS}
    if dataset.test_rows is not None:
        parts["test"].append(np.flatnonzero(own_test))
    for label in range(len(dataset.class_names)):
        rows = rng.permutation(np.flatnonzero((dataset.labels == label) & ~own_test))
        start = 0
        for name, share in _SHARES.items():
            if name == "test" and dataset.test_rows is not None:
                continue
            stop = start + round(share * len(rows))
            parts[name].append(rows[start:stop])
            start = stop
        parts["train"].append(rows[start:])
    return {name: np.sort(np.concatenate(rows)) for name, rows in parts.items()}


def take(dataset: Dataset, split: str, *, seed: int = SPLIT_SEED) -> ImageSet:
    """The images of one part, with their labels and the rows they came from.

    Args:
        dataset: What to take from.
        split: One of `SPLITS`.
        seed: Of the split.

    Raises:
        InputError: No part of that name.
    """
    if split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    rows = split_rows(dataset, seed=seed)[split]
    return ImageSet(
        images=dataset.images[rows],
        labels=dataset.labels[rows],
        source_index=rows,
        info={"dataset": dataset.name, "split": split},
    )


def sample(images: ImageSet, n: int | None, *, seed: int = 0) -> ImageSet:
    """Returns n images at random, in their old order; all of them where n is None.

    Raises:
        InputError: n below 1, or more than there are.
    """
    if n is None:
        return images
    if not 1 <= n <= len(images):
        raise InputError(f"n: expected 1 to {len(images)} images, found {n}")
    rows = np.random.default_rng([seed]).permutation(len(images))[:n]
    chosen = np.zeros(len(images), dtype=np.bool_)
    chosen[rows] = True
    return replace(images.only(chosen), info={**images.info, "sample": {"n": n, "seed": seed}})
