"""Typicality: the statistics against a twin, the density against scikit-learn, the direction, and what is stored."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import logsumexp, softmax
from scipy.stats import entropy, multivariate_normal
from sklearn.mixture import GaussianMixture

from detector.diversity import log_diversity
from detector.outputs import Outputs
from detector.rates import Auc
from detector.scores.mixture import COMPONENTS, Gaussian, Typical, fit_typical
from detector.scores.statistics import STATISTICS, statistics
from detector.scores.typicality import Typicality
from tests.detector.scores.test_scores import random_logits

Floats = NDArray[np.float64]


def twin(logits: Floats) -> list[float]:
    """The statistics of one image, (K, L)."""
    mean = softmax(logits, axis=1).mean(axis=0)
    label = int(mean.argmax())
    rest = np.delete(logits, label, axis=1)
    information = entropy(mean) - np.mean([entropy(softmax(member)) for member in logits])
    values = [
        np.log(-log_diversity(logits[None])[0]),
        np.log(mean[label] / (1 - mean[label])),
        np.log(information),
    ]
    for column in (
        logits[:, label] - rest.max(axis=1),
        logsumexp(logits, axis=1),
        logsumexp(rest, axis=1),
        np.array([entropy(softmax(member)) for member in rest]),
    ):
        values += [column.mean(), column.std()]
    return [float(value) for value in values]


def test_statistics_against_the_twin() -> None:
    logits = random_logits(60, 0)
    found = statistics(Outputs(logits))
    assert found.shape == (60, len(STATISTICS))
    np.testing.assert_allclose(found, [twin(image) for image in logits], rtol=1e-6, atol=1e-9)


def test_statistics_are_finite_at_the_borders() -> None:
    identical = random_logits(2, 1, members=1).repeat(3, axis=1)
    certain = np.where(np.arange(10) == 2, 3e4, random_logits(2, 2))
    assert np.isneginf(log_diversity(identical)).all()
    assert np.isfinite(statistics(Outputs(np.concatenate([identical, certain, np.zeros((1, 3, 10))])))).all()


def rows(count: int, seed: int) -> Floats:
    """Points of two clouds."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(count, 4)) @ rng.normal(size=(4, 4)) + 5 * rng.integers(2, size=(count, 1)))


def test_the_density_is_scikit_learns() -> None:
    """For a class with its own mixture, and for one that shares the mixture of all."""
    values = rows(900, 0)
    labels = np.repeat([0, 1], [700, 200])
    typical = fit_typical(values, labels, 3, least=500)
    assert typical.which == (0, 1, 1)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    others = (rows(50, 1) - values.mean(axis=0)) / values.std(axis=0)
    for label, part in ((0, standard[:700]), (1, standard), (2, standard)):
        mixture = GaussianMixture(COMPONENTS, reg_covar=1e-3, max_iter=300, random_state=0).fit(part)
        found = typical.log_density(rows(50, 1), np.full(50, label))
        np.testing.assert_allclose(found, mixture.score_samples(others), rtol=1e-9)


def test_the_density_by_hand() -> None:
    """One component, whose precision is the inverse of a known deviation."""
    gaussian = Gaussian(log_weight=0.0, mean=(1.0, -1.0), precision=((0.5, 0.0), (0.0, 0.25)))
    typical = Typical(centre=(0.0, 0.0), scale=(1.0, 1.0), mixtures=((gaussian,),), which=(0,), n=1)
    values = np.array([[1.0, -1.0], [3.0, 0.0], [-50.0, 7.0]])
    expected = multivariate_normal([1.0, -1.0], np.diag([4.0, 16.0])).logpdf(values)
    np.testing.assert_allclose(typical.log_density(values, np.zeros(3, dtype=np.int64)), expected, rtol=1e-12)


def test_both_sides_are_suspicious() -> None:
    """Where any one-sided score has an AUC far from 1 on one of the two."""
    clean, fit = random_logits(300, 10), random_logits(600, 11)
    score = Typicality().fit(fit)
    timid, bold = random_logits(300, 12) * 0.25, random_logits(300, 13) * 3
    for other in (timid, bold):
        assert Auc.of(score.of(clean), score.of(other)).value > 0.95


def test_a_fit_repeats() -> None:
    logits = random_logits(300, 14)
    assert Typicality().fit(logits).fitted == Typicality().fit(logits).fitted


def test_images_that_repeat_can_be_fitted() -> None:
    """Every statistic is constant: no spread to divide by, and one cluster where three are asked for."""
    logits = np.repeat(random_logits(1, 15), 150, axis=0)
    found = Typicality().fit(logits).of(np.concatenate([logits[:1], random_logits(20, 16)]))
    assert np.isfinite(found).all()
    assert found[0] == found.max()


def test_what_is_stored_scores_the_same_to_the_bit() -> None:
    score = Typicality().fit(random_logits(300, 17))
    assert score.fitted is not None
    stored = Typical.model_validate_json(score.fitted.model_dump_json())
    assert stored == score.fitted
    logits = random_logits(100, 18)
    np.testing.assert_array_equal(Typicality(stored).of(logits), score.of(logits))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("scale", 0), 0.0, "positive scales"),
        (("centre", 0), "NaN", "finite numbers"),
        (("which", 0), 7, "which: expected 0 to 0"),
        (("which", 0), -1, "which: expected 0 to 0"),
        (("mixtures",), [], "at least 1 item"),
        (("mixtures", 0), [], "at least one"),
        (("mixtures", 0, 0, "mean"), [0.0], "means and precisions of 11"),
        (("mixtures", 0, 0, "precision", 3), [0.0], "means and precisions of 11"),
        (("mixtures", 0, 0, "precision", 3, 3), -1.0, "positive scales and precisions"),
        (("mixtures", 0, 0, "precision", 3, 3), "Infinity", "finite numbers"),
        (("mixtures", 0, 0, "log_weight"), "NaN", "finite"),
        (("mixtures", 0, 0, "log_weight"), 0.5, "less than or equal to 0"),
    ],
)
def test_numbers_that_could_score_nan_are_refused(path: tuple[Any, ...], value: Any, reason: str) -> None:
    fitted = Typicality().fit(random_logits(150, 19)).fitted
    assert fitted is not None
    document = json.loads(fitted.model_dump_json())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError, match=reason):
        Typical.model_validate_json(json.dumps(document))
