"""The scores' twins with gradients, against the scores that decide."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.diversity import log_diversity_without
from detector.outputs import Outputs
from detector.scores import SCORES
from detector.scores.score import Score
from training.attacks.surrogates import surrogate


def some_logits(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Of members that agree on a class more or less, and disagree on the others."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3, 6)) * 2
    logits[np.arange(count), :, rng.integers(6, size=count)] += rng.uniform(2, 8, size=(count, 1))
    return logits.astype(np.float32)


def predicted(logits: NDArray[np.floating[Any]]) -> torch.Tensor:
    return torch.from_numpy(Outputs(logits).labels)


def fitted(name: str) -> Score:
    return SCORES[name]().fit(some_logits(600, seed=1))


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_twin_agrees_with_the_score(name: str) -> None:
    score, logits = fitted(name), some_logits(100)
    expected = score.measure(Outputs(logits))
    found = surrogate(score)(torch.from_numpy(logits), predicted(logits)).numpy()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_of_another_label_it_is_what_the_score_of_that_prediction_would_be() -> None:
    logits = some_logits(100)
    labels = (predicted(logits) + 1) % 6
    found = {name: surrogate(fitted(name))(torch.from_numpy(logits), labels).numpy() for name in SCORES}
    probability = Outputs(logits).probabilities[np.arange(100), labels.numpy()]
    np.testing.assert_allclose(found["log_diversity"], log_diversity_without(logits, labels.numpy()), rtol=1e-5)
    np.testing.assert_allclose(found["max_probability"], np.log(probability / (1 - probability)), atol=1e-9)
    for name in ("mutual_information", "entropy", "energy"):
        np.testing.assert_allclose(found[name], fitted(name).measure(Outputs(logits)), atol=1e-9)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_twin_has_the_gradient_of_its_values(name: str) -> None:
    twin = surrogate(fitted(name))
    logits = torch.from_numpy(some_logits(3).astype(np.float64)).requires_grad_()
    labels = predicted(logits.detach().numpy())
    assert torch.autograd.gradcheck(lambda moved: twin(moved, labels), logits)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_gradients_are_finite_where_members_are_alike_and_certain(name: str) -> None:
    logits = torch.zeros(2, 3, 6, dtype=torch.float64)
    logits[:, :, 0] = torch.tensor([5.0, 60.0])[:, None]
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(surrogate(fitted(name))(logits, predicted(logits.detach().numpy())).sum(), logits)
    assert slope.isfinite().all()
