"""What images made on one model are to another."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.attacked import attack
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.square import Square
from detector.transfer import transfer
from tests.detector.asked import Asked, noise, weights


def made() -> ImageSet:
    """On one classifier."""
    asked = Asked(weights(4))
    images = noise(30)
    start = ImageSet(images=images, labels=asked.labels(images), info={"dataset": "noise"})
    return attack(asked.oracle(known_as={"bundle": "one"}), start, Square(eps=0.1, queries=60), progress=False)


def other() -> Asked:
    """A classifier that is like it."""
    return Asked(weights(4) + np.random.default_rng(5).normal(size=(36, 4)) * 1.5)


def test_the_images_stay_and_the_figures_are_the_others() -> None:
    one, asked = made(), other()
    oracle = asked.oracle(known_as={"bundle": "two"})
    found = transfer(oracle, one, made_on={"bundle": "one"}, batch_size=7, progress=False)
    before, after = asked.labels(np.asarray(one.clean)), asked.labels(np.asarray(one.images))
    correct = before == one.labels
    assert np.array_equal(found.images, one.images)
    assert np.array_equal(np.asarray(found.clean), np.asarray(one.clean))
    assert np.array_equal(np.asarray(found.clean_correct), correct)
    assert np.array_equal(np.asarray(found.success), correct & (after != one.labels))
    told = found.info["attack"]
    assert told["found"]["success"] == np.asarray(found.success).sum() > 0
    assert told["found"]["success"] != one.info["attack"]["found"]["success"]
    assert told["substitute"] == {"bundle": "one", "found": one.info["attack"]["found"]}
    assert told["asked"] == {"bundle": "two"}
    assert told["name"] == "square60-0.1-transferred"
    assert found.info["dataset"] == "noise"
    assert oracle.spent == 2 * 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": None}, "images: expected what an attack has written, found no 'clean'"),
        ({"info": {}}, "images: expected what an attack has written, found no 'clean' or no settings of an attack"),
        ({"labels": None}, "labels: expected the true label of each image, found none"),
    ],
    ids=["clean", "info", "labels"],
)
def test_images_that_no_attack_made_are_refused(change: dict[str, Any], message: str) -> None:
    asked = other()
    with pytest.raises(InputError, match=message):
        transfer(asked.oracle(), replace(made(), **change), made_on={}, progress=False)
    assert asked.calls == []
