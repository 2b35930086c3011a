"""The scores' twins with gradients, against the scores that decide."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

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


def fitted(name: str) -> Score:
    return SCORES[name]().fit(some_logits(600, seed=1))


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_twin_agrees_with_the_score(name: str) -> None:
    score, logits = fitted(name), some_logits(100)
    expected = score.measure(Outputs(logits))
    found = surrogate(score)(torch.from_numpy(logits)).numpy()
    assert found.dtype == np.float64
    # Training's jitter moves log diversity where members are nearly collinear.
    near = Outputs(logits).log_diversity > -8
    assert near.mean() > 0.5
    np.testing.assert_allclose(found[near], expected[near], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"log_diversity", "typicality"}))
def test_a_twin_without_jitter_agrees_to_the_last_digits(name: str) -> None:
    logits = some_logits(100)
    found = surrogate(fitted(name))(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(found, fitted(name).measure(Outputs(logits)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_twin_has_the_gradient_of_its_values(name: str) -> None:
    twin = surrogate(fitted(name))
    logits = torch.from_numpy(some_logits(3).astype(np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(twin, logits)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_gradients_are_finite_where_members_are_alike_and_certain(name: str) -> None:
    logits = torch.zeros(2, 3, 6, dtype=torch.float64)
    logits[:, :, 0] = torch.tensor([5.0, 60.0])[:, None]
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(surrogate(fitted(name))(logits).sum(), logits)
    assert slope.isfinite().all()
