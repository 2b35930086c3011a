"""The temperature against known answers; and what it promises: the order of the classes, and a better fit."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from detector.confidence import Confidence, calibration_error, fit_temperature, negative_log_likelihood, recalibrate
from detector.errors import InputError

Floats = NDArray[np.float64]


def drawn(count: int, seed: int, power: float) -> tuple[Floats, NDArray[np.int64]]:
    """Predictions whose `power` is the truth, and true classes drawn from it."""
    rng = np.random.default_rng(seed)
    truth = softmax(rng.normal(size=(count, 5)) * 2, axis=1)
    labels = np.array([rng.choice(5, p=row) for row in truth])
    return softmax(np.log(truth) / power, axis=1), labels


@pytest.mark.parametrize("power", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_prediction_is_found(power: float) -> None:
    probabilities, labels = drawn(20_000, 0, power)
    assert fit_temperature(probabilities, labels) == pytest.approx(1 / power, rel=0.03)


def test_no_other_temperature_fits_better() -> None:
    probabilities, labels = drawn(3_000, 1, 3.0)
    found = fit_temperature(probabilities, labels)
    losses = [negative_log_likelihood(recalibrate(probabilities, t), labels) for t in found * np.array([0.8, 1, 1.25])]
    assert losses[1] < min(losses[0], losses[2])


def test_recalibrating_is_a_power() -> None:
    probabilities, _ = drawn(50, 2, 1.0)
    expected = probabilities**2.5 / (probabilities**2.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(recalibrate(probabilities, 0.4), expected, rtol=1e-12)
    np.testing.assert_allclose(recalibrate(probabilities, 1.0), probabilities, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 5.0, 100.0])
def test_the_class_never_changes(temperature: float) -> None:
    probabilities, _ = drawn(500, 3, 1.0)
    probabilities[0] = [0, 1, 0, 0, 0]
    found = recalibrate(probabilities, temperature)
    np.testing.assert_array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_where_every_image_is_right_the_temperature_stays_sane() -> None:
    """The likelihood alone would make the ensemble certain; Platt's rule leaves as much doubt as n images do."""
    probabilities = np.full((200, 10), 0.4 / 9)
    probabilities[:, 3] = 0.6
    after = recalibrate(probabilities, fit_temperature(probabilities, np.full(200, 3)))
    assert 1 - after[0, 3] == pytest.approx(0.9 / 202, rel=0.01)


def test_negative_log_likelihood_against_the_library() -> None:
    logits = np.random.default_rng(4).normal(size=(40, 6))
    labels = np.arange(40) % 6
    expected = -log_softmax(logits, axis=1)[np.arange(40), labels].mean()
    assert negative_log_likelihood(softmax(logits, axis=1), labels) == pytest.approx(expected)
    impossible = np.array([[0.0, 1.0]])
    assert math.isfinite(negative_log_likelihood(impossible, np.array([0])))


def test_calibration_error_by_hand() -> None:
    """Four at 0.9, of which three are right; six at 0.5, of which none is."""
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.5, 0.5]] * 6)
    labels = np.array([0, 0, 0, 1] + [1] * 6)
    assert calibration_error(probabilities, labels) == pytest.approx(0.4 * 0.15 + 0.6 * 0.5)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0.0


def test_it_is_fitted_on_some_and_reported_on_others() -> None:
    fit, report = drawn(2_000, 5, 3.0), drawn(1_000, 6, 3.0)
    found = Confidence.of(fit, report)
    assert found.temperature == fit_temperature(*fit)
    assert (found.fitted, found.reported) == (2_000, 1_000)
    assert found.nll_before == negative_log_likelihood(*report)
    assert found.nll_after == negative_log_likelihood(recalibrate(report[0], found.temperature), report[1])
    assert found.ece_after < 0.3 * found.ece_before
    with pytest.raises(InputError, match="confidence: expected a prediction and a label for each image, found 0 and 0"):
        Confidence.of((fit[0][:0], fit[1][:0]), report)
