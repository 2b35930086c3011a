"""Mahalanobis: the density against scipy's, what it sees that others do not, and what is stored."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import log_softmax
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from detector.errors import CalibrationError
from detector.outputs import Outputs
from detector.rates import Auc
from detector.scores.classgaussians import ClassGaussians, fit_classes
from detector.scores.mahalanobis import LEAST, Mahalanobis, log_probabilities
from tests.detector.scores.test_scores import random_logits

Floats = NDArray[np.float64]


def test_log_probabilities_are_each_members() -> None:
    logits = random_logits(20, 0)
    found = log_probabilities(Outputs(logits))
    np.testing.assert_allclose(found, log_softmax(logits, axis=2).reshape(20, 30), rtol=1e-12)


def test_the_density_by_hand() -> None:
    fitted = ClassGaussians(means=((1.0, -1.0), (0.0, 0.0)), which=(1, 0), precision=((0.5, 0.3), (0.0, 0.25)), n=1)
    inverse = np.array(fitted.precision) @ np.array(fitted.precision).T
    values = np.array([[1.0, -1.0], [3.0, 0.0], [-50.0, 7.0]])
    for label, mean in enumerate(((0.0, 0.0), (1.0, -1.0))):
        expected = multivariate_normal(mean, np.linalg.inv(inverse)).logpdf(values)
        np.testing.assert_allclose(fitted.log_density(values, np.full(3, label)), expected, rtol=1e-12)


def test_the_fit_against_scikit_learn_and_scipy() -> None:
    """Two classes with a mean of their own, and one that shares the mean of all."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 200, 5])
    values = rng.normal(size=(505, 4)) @ rng.normal(size=(4, 4)) + 5.0 * labels[:, None]
    fitted = fit_classes(values, labels, 3, least=100)
    assert fitted.which == (0, 1, 2)
    means = np.stack([values[labels == 0].mean(0), values[labels == 1].mean(0), values.mean(0)])
    gap = values - means[labels]
    scale = gap.std(axis=0)
    covariance = LedoitWolf(assume_centered=True).fit(gap / scale).covariance_ * scale * scale[:, None]
    for label in range(3):
        expected = multivariate_normal(means[label], covariance).logpdf(values)
        np.testing.assert_allclose(fitted.log_density(values, np.full(505, label)), expected, rtol=1e-4)


def cyclic(count: int, seed: int, step: int) -> Floats:
    """Images of which the class so many places after the first is always second."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3, 10))
    classes = rng.integers(10, size=count)
    logits[np.arange(count), :, classes] += 12
    logits[np.arange(count), :, (classes + step) % 10] += 6
    return np.asarray(logits)


def test_another_class_in_the_second_place_is_suspicious() -> None:
    score = Mahalanobis().fit(cyclic(600, 0, 1))
    assert Auc.of(score.of(cyclic(200, 1, 1)), score.of(cyclic(200, 2, 4))).value > 0.99


@pytest.mark.parametrize("factor", [0.25, 3.0], ids=["timid", "bold"])
def test_both_sides_are_suspicious(factor: float) -> None:
    score = Mahalanobis().fit(cyclic(600, 11, 1))
    assert Auc.of(score.of(cyclic(300, 10, 1)), score.of(factor * cyclic(300, 12, 1))).value > 0.95


def test_an_image_scores_the_same_to_the_bit_in_any_batch() -> None:
    score, logits = Mahalanobis().fit(random_logits(300, 3)), random_logits(70, 4).astype(np.float32)
    alone = np.concatenate([score.of(logits[row : row + 1]) for row in range(70)])
    np.testing.assert_array_equal(score.of(logits), alone)


def test_images_that_repeat_can_be_fitted() -> None:
    logits = np.repeat(random_logits(1, 15), 250, axis=0)
    found = Mahalanobis().fit(logits).of(np.concatenate([logits[:1], random_logits(20, 16)]))
    assert np.isfinite(found).all()
    assert found[0] == found.max()


def test_what_is_stored_scores_the_same_to_the_bit() -> None:
    score = Mahalanobis().fit(random_logits(300, 17))
    assert score.fitted is not None
    stored = ClassGaussians.model_validate_json(score.fitted.model_dump_json())
    assert stored == score.fitted
    logits = random_logits(100, 18)
    np.testing.assert_array_equal(Mahalanobis(stored).of(logits), score.of(logits))


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(CalibrationError, match="expected at least 100 clean images to fit, found 99"):
        Mahalanobis().fit(random_logits(LEAST - 1, 0))
    with pytest.raises(CalibrationError, match="expected at most 512 logits an image, found 513: see typicality"):
        Mahalanobis().fit(random_logits(LEAST, 0, classes=171))


def test_another_number_of_members_is_refused() -> None:
    score = Mahalanobis().fit(random_logits(200, 0))
    with pytest.raises(CalibrationError, match="expected 30 logits an image, as in its fit, found 40"):
        score.of(random_logits(5, 0, members=4))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("precision", 3, 3), -1.0, "positive on its diagonal"),
        (("precision", 3, 0), 0.5, "upper triangular"),
        (("precision", 3, 4), "Infinity", "finite"),
        (("precision", 3), [0.0], "rows of 30"),
        (("precision",), [], "at least 1 item"),
        (("means", 0, 0), "NaN", "finite"),
        (("means", 0), [0.0], "rows of 30"),
        (("means",), [], "at least 1 item"),
        (("which", 0), -1, "which: expected 0 to"),
        (("which", 0), 99, "which: expected 0 to"),
    ],
)
def test_numbers_that_could_score_nan_are_refused(path: tuple[Any, ...], value: Any, reason: str) -> None:
    fitted = Mahalanobis().fit(random_logits(250, 19)).fitted
    assert fitted is not None
    document = json.loads(fitted.model_dump_json())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError, match=reason):
        ClassGaussians.model_validate_json(json.dumps(document))
