"""The oracle: every query counted, every answer checked."""

from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.oracle import Oracle
from tests.conftest import make_images
from tests.detector.asked import Asked, noise, weights


def answering(answers: Any) -> Oracle:
    return Oracle(ask=lambda images: np.asarray(answers), shape=(1, 6, 6), classes=3)


def test_a_query_is_an_image_not_a_call() -> None:
    asked = Asked(weights())
    oracle = asked.oracle()
    for count in (5, 1, 3):
        oracle(noise(count))
    assert oracle.spent == sum(map(len, asked.calls)) == 9


def test_answers_are_those_that_were_given() -> None:
    asked, images = Asked(weights(3)), noise(4)
    assert np.array_equal(asked.oracle()(images), asked.predict(images))


def test_a_budget_covers_so_many_and_no_more() -> None:
    oracle = Asked(weights()).oracle(budget=10)
    assert oracle.covers(10)
    assert not oracle.covers(11)
    oracle(noise(4))
    oracle.charge(3)
    assert oracle.covers(3)
    assert not oracle.covers(4)
    assert oracle.spent == 7


def test_without_a_budget_there_is_no_end() -> None:
    assert Asked(weights()).oracle().covers(10**12)


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match=f"budget: expected at least 1 query, found {budget}"):
        Asked(weights()).oracle(budget=budget)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (np.zeros((2, 0)), "predictions: expected the probability of each class, found none; from the class alone"),
        (np.full((2, 2), 0.5), r"predictions: expected shape \(2, 3\), found \(2, 2\)"),
        (np.full((1, 3), 1 / 3), r"predictions: expected shape \(2, 3\), found \(1, 3\)"),
        ([[0.2, 0.3, 0.5], [0.2, np.nan, 0.5]], r"add up to 1, found \[0.2 nan 0.5\] and a sum of nan"),
        ([[0.2, 0.3, 0.5], [2.0, 1.0, -2.0]], r"add up to 1, found \[ 2.  1. -2.\] and a sum of 1"),
        ([[0.2, 0.3, 0.4], [0.2, 0.3, 0.5]], r"add up to 1, found \[0.2 0.3 0.4\] and a sum of 0.9"),
    ],
    ids=["classes alone", "classes", "images", "nan", "logits", "sum"],
)  # fmt: skip
def test_what_is_no_prediction_is_refused(answers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        answering(answers)(noise(2))


def test_a_bundle_answers_as_its_detector_does(calibrated: Bundle) -> None:
    detector, images = Detector.open(calibrated.path, device="cpu"), make_images(70)
    oracle = Oracle.of_detector(detector, budget=100)
    assert np.array_equal(oracle(images), detector.classify(images).probabilities)
    assert (oracle.shape, oracle.classes, oracle.budget) == ((1, 8, 8), 10, 100)
    assert oracle.known_as == {"bundle": calibrated.digest}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (ImageSet(images=noise(2)), "labels: expected the true label of each image, found none"),
        (ImageSet(images=noise(2), labels=np.array([0, 2])), "labels: expected 0 to 1, found 2 at image 1"),
        (ImageSet(images=make_images(2), labels=np.zeros(2, int)), r"images: expected shape \(N, 1, 6, 6\), found \(2"),
        (
            ImageSet(images=noise(2), labels=np.zeros(2, int), source_index=np.array([0, -3])),
            "source_index: expected rows of a data set, found -3",
        ),
    ],
    ids=["no labels", "labels", "shape", "source index"],
)
def test_images_that_do_not_fit_are_refused(images: ImageSet, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Asked(weights()).oracle().labels_of(images)
