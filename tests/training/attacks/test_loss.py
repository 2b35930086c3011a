"""The losses and margins that attacks climb: values, gradients, and what float32 would lose."""

import math

import numpy as np
import pytest
import torch

from detector.errors import InputError
from detector.prediction import mean_prediction
from training.adp import log_mean
from training.attacks.loss import ensemble_loss, margin, repeated_softmax_loss


def test_loss_is_the_negative_log_of_the_mean_probability() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 3, 10)) * 3
    labels = np.arange(7)
    expected = -np.log(mean_prediction(logits)[np.arange(7), labels])
    found = ensemble_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_loss_has_the_gradient_of_its_values() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 4)))
    labels = torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda z: ensemble_loss(z, labels), logits.requires_grad_())


@pytest.mark.parametrize("margin", [20.0, 45.0, 90.0, 300.0])
def test_loss_does_not_saturate_where_every_member_is_certain(margin: float) -> None:
    """In closed form: d(-log F_y)/dz_y of K alike members is -(1 - p) / K, p within exp(-margin) of 1."""
    logits = torch.zeros(1, 3, 4, dtype=torch.float64)
    logits[:, :, 1] = margin
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(ensemble_loss(logits, torch.tensor([1])).sum(), logits)
    rest = math.exp(-margin)
    assert gradient[0, 0, 1].item() == pytest.approx(-3 * rest / (1 + 3 * rest) / 3, rel=1e-9)
    assert gradient[0, 0, 0].item() == pytest.approx(rest / (1 + 3 * rest) / 3, rel=1e-9)


@pytest.mark.parametrize("margin", [300.0, -300.0])
def test_loss_is_finite_in_float32(margin: float) -> None:
    logits = torch.zeros(1, 3, 4)
    logits[:, :, 1] = margin
    loss = ensemble_loss(logits, torch.tensor([1])).item()
    assert loss == pytest.approx(max(0.0, -margin + math.log(3)), abs=1e-6)


def some_logits(members: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).normal(size=(7, members, 10)) * 3, np.arange(7)


@pytest.mark.parametrize("members", [1, 3])
def test_margin_is_that_of_the_log_of_the_mean_probability(members: int) -> None:
    logits, labels = some_logits(members)
    log_prediction = np.log(mean_prediction(np.repeat(logits, 2, axis=1) if members == 1 else logits))
    expected = [row[y] - np.delete(row, y).max() for row, y in zip(log_prediction, labels, strict=True)]
    np.testing.assert_allclose(margin(torch.from_numpy(logits), torch.from_numpy(labels)).numpy(), expected, rtol=1e-9)


def test_margin_of_one_member_is_the_difference_of_its_logits() -> None:
    logits = torch.tensor([[[4.0, 1.5, -3.0]]])
    assert margin(logits, torch.tensor([0])).item() == pytest.approx(2.5)
    assert margin(logits, torch.tensor([2])).item() == pytest.approx(-7.0)


def test_log_mean_is_finite_where_a_mean_of_probabilities_is_zero() -> None:
    logits = torch.zeros(1, 2, 3)
    logits[:, :, 0] = 1000.0
    assert log_mean(logits)[0].tolist() == pytest.approx([0.0, -1000.0, -1000.0])


def test_repeated_softmax_loss_takes_softmax_of_probabilities() -> None:
    logits, labels = some_logits()
    twice = np.exp(mean_prediction(logits))
    expected = -np.log(twice[np.arange(7), labels] / twice.sum(axis=1))
    found = repeated_softmax_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_repeated_softmax_loss_has_hardly_a_slope_where_members_are_certain() -> None:
    """Which is why it measures no robustness: the other loss has a slope of a constant size there."""
    logits = torch.zeros(1, 3, 4, dtype=torch.float64)
    logits[:, :, 1] = 20.0
    logits.requires_grad_()
    labels = torch.tensor([0])
    (weak,) = torch.autograd.grad(repeated_softmax_loss(logits, labels).sum(), logits)
    (strong,) = torch.autograd.grad(ensemble_loss(logits, labels).sum(), logits)
    assert weak.abs().max() < 1e-8
    assert strong.abs().max() > 0.3


@pytest.mark.parametrize("function", [ensemble_loss, margin, repeated_softmax_loss])
@pytest.mark.parametrize(
    ("logits", "labels"), [((4, 10), (4,)), ((4, 3, 10), (3,))], ids=["without members", "labels of other images"]
)
def test_shapes_that_do_not_fit_are_refused(function: object, logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    assert callable(function)
    with pytest.raises(InputError, match=r"expected shapes \(N, K, L\) and \(N,\)"):
        function(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
