"""The ADP objective against loops, against the detector's own diversity, and at solutions the paper proves."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from torch import Tensor

from detector import diversity as scoring
from detector.errors import InputError
from training import adp

SIZES = [(2, 3), (3, 10), (5, 10), (4, 100)]


def some_logits(members: int, classes: int, *, count: int = 6, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(members * classes)
    logits = torch.from_numpy(rng.normal(size=(count, members, classes)) * scale)
    return logits, torch.from_numpy(rng.integers(classes, size=count))


def twin(logits: Tensor, labels: Tensor, alpha: float, beta: float, jitter: float) -> float:
    """Algorithm 1's objective as it is written, image by image, member by member."""
    total = 0.0
    for image, label in zip(logits.numpy(), labels.tolist(), strict=True):
        members = [softmax(member) for member in image]
        cross_entropy = sum(-math.log(member[label]) for member in members)
        mean = sum(members) / len(members)
        entropy = -sum(p * math.log(p) for p in mean)
        columns = [np.delete(member, label) for member in members]
        unit = [column / math.sqrt(sum(column**2)) for column in columns]
        gram = np.array([[float(a @ b) for b in unit] for a in unit])
        diversity = math.log(np.linalg.det(gram + jitter * np.eye(len(unit))))
        total += cross_entropy - alpha * entropy - beta * diversity
    return total / len(labels)


@pytest.mark.parametrize(("members", "classes"), SIZES)
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (2.0, 0.0), (0.0, 0.5), (2.0, 0.5)])
def test_loss_is_the_loops(members: int, classes: int, alpha: float, beta: float) -> None:
    logits, labels = some_logits(members, classes)
    found = adp.loss(logits, labels, alpha=alpha, beta=beta).item()
    assert found == pytest.approx(twin(logits, labels, alpha, beta, adp.JITTER), rel=1e-12)


def test_prediction_is_the_mean_of_the_softmax() -> None:
    logits, _ = some_logits(3, 10)
    np.testing.assert_allclose(
        adp.log_prediction(logits).exp().numpy(), softmax(logits.numpy(), axis=2).mean(axis=1), rtol=1e-13
    )


@pytest.mark.parametrize("name", ["loss", "log_diversity", "prediction_entropy", "ensemble_cross_entropy"])
def test_gradients_are_those_of_the_values(name: str) -> None:
    logits, labels = some_logits(3, 5, count=3)
    functions = {
        "loss": lambda z: adp.loss(z, labels, alpha=2.0, beta=0.5),
        "log_diversity": lambda z: adp.log_diversity(z, labels),
        "prediction_entropy": adp.prediction_entropy,
        "ensemble_cross_entropy": lambda z: adp.ensemble_cross_entropy(z, labels),
    }
    assert torch.autograd.gradcheck(functions[name], logits.requires_grad_())


@pytest.mark.parametrize(("members", "classes"), SIZES)
def test_without_jitter_diversity_is_the_detectors(members: int, classes: int) -> None:
    logits, labels = some_logits(members, classes)
    found = adp.log_diversity(logits, labels, jitter=0.0).numpy()
    np.testing.assert_allclose(found, scoring.log_diversity(logits.numpy(), labels.numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("members", "classes"), SIZES)
@pytest.mark.parametrize("gap", [1.0, 0.1, 0.01])
def test_jitter_moves_diversity_by_no_more_than_it_says(members: int, classes: int, gap: float) -> None:
    logits, labels = some_logits(members, classes)
    logits = logits[:, :1] + gap * (logits - logits[:, :1])
    exact = scoring.log_diversity(logits.numpy(), labels.numpy())
    others = np.exp(logits.numpy())
    np.put_along_axis(others, labels.numpy()[:, None, None], 0.0, axis=2)
    unit = others / np.linalg.norm(others, axis=2, keepdims=True)
    smallest = np.linalg.eigvalsh(unit @ unit.transpose(0, 2, 1))[:, 0]
    moved = adp.log_diversity(logits, labels).numpy() - exact
    assert (moved >= -1e-9).all()
    assert (moved <= members * adp.JITTER / smallest + 1e-9).all()


def test_training_and_scoring_order_images_alike() -> None:
    logits, labels = some_logits(3, 10, count=500)
    trained = adp.log_diversity(logits, labels).numpy()
    scored = scoring.log_diversity(logits.numpy(), labels.numpy())
    assert (np.argsort(trained) == np.argsort(scored)).all()


@pytest.mark.parametrize("same", ["all", "two"])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_gradient_is_finite_where_members_agree(same: str, scale: float) -> None:
    logits, labels = some_logits(3, 10, scale=scale)
    logits = logits[:, [0, 0, 0 if same == "all" else 2]].float().requires_grad_()
    adp.loss(logits, labels, alpha=2.0, beta=0.5).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_pulls_nearly_equal_members_apart() -> None:
    logits, labels = some_logits(2, 10)
    logits = (logits[:, :1] + 1e-2 * (logits - logits[:, :1])).requires_grad_()
    before = adp.log_diversity(logits, labels)
    (gradient,) = torch.autograd.grad(before.sum(), logits)
    after = adp.log_diversity(logits.detach() + 1e-5 * gradient, labels)
    assert (after > before).all()


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_extreme_logits_give_finite_losses_and_gradients(scale: float) -> None:
    logits, labels = some_logits(3, 10)
    logits = (logits * scale).float().requires_grad_()
    loss = adp.loss(logits, labels, alpha=2.0, beta=0.5)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_a_logit_that_is_not_a_number_shows_in_the_loss() -> None:
    logits, labels = some_logits(3, 10)
    logits[2, 1, 3] = torch.nan
    assert adp.loss(logits, labels, alpha=0.0, beta=0.5).isnan()
    assert adp.log_diversity(logits, labels).isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(("members", "classes"), [(3, 10), (3, 4), (9, 10), (11, 100)])
def test_corollary_1_disjoint_supports_reach_the_maximum(members: int, classes: int) -> None:
    """Eq. (8): each member spreads what is left over classes of its own."""
    share = (classes - 1) // members
    logits = torch.full((1, members, classes), -1e4, dtype=torch.float64)
    logits[:, :, 0] = 1.0
    for k in range(members):
        logits[:, k, 1 + k * share : 1 + (k + 1) * share] = 0.0
    value = adp.log_diversity(logits, torch.tensor([0])).item()
    assert value == pytest.approx(members * math.log1p(adp.JITTER), abs=1e-12)


@pytest.mark.parametrize(
    ("members", "classes", "alpha", "confidence"), [(3, 10, 2.0, 0.588), (5, 10, 2.0, 0.754), (5, 1000, 0.61, 0.900)]
)
def test_theorem_2_nothing_pulls_at_the_solution_of_eq_7(
    members: int, classes: int, alpha: float, confidence: float
) -> None:
    def eq_7(p: float) -> float:
        return 1 / p - alpha / members * math.log(p * (classes - 1) / (1 - p))

    solution = brentq(eq_7, 1 / classes, 1 - 1e-9)
    assert solution == pytest.approx(confidence, abs=5e-4)

    def pull(p: float) -> float:
        probabilities = torch.full((1, members, classes), (1 - p) / (classes - 1), dtype=torch.float64)
        probabilities[:, :, 4] = p
        logits = probabilities.log().requires_grad_()
        (gradient,) = torch.autograd.grad(adp.loss(logits, torch.tensor([4]), alpha=alpha, beta=0.0), logits)
        return gradient.abs().max().item()

    assert pull(solution) < 1e-9
    assert pull(solution - 0.05) > 1e-3
    assert pull(solution + 0.05) > 1e-3


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((4, 10), (4,), r"logits: expected shape \(N, K, L\), found \(4, 10\)"),
        ((4, 3, 10), (5,), r"labels: expected shape \(4,\), found \(5,\)"),
        ((4, 1, 10), (4,), "members: expected at least 2, found 1"),
        ((4, 3, 3), (4,), "members: expected at most 2 for 3 classes, found 3"),
    ],
    ids=["axes", "labels", "one-member", "too-many-members"],
)
def test_refuses(shape: tuple[int, ...], labels: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adp.loss(torch.zeros(shape), torch.zeros(labels, dtype=torch.int64), alpha=2.0, beta=0.5)
