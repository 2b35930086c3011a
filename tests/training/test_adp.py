"""The ADP objective against loops, against the detector's own diversity, and at solutions the paper proves."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from detector import diversity as scoring
from detector.errors import InputError
from training import adp

SIZES = [(2, 3), (3, 10), (5, 10), (4, 100)]


def some_logits(members: int, classes: int, *, count: int = 6, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(members * classes)
    logits = torch.from_numpy(rng.normal(size=(count, members, classes)) * scale)
    return logits, torch.from_numpy(rng.integers(classes, size=count))


def loss(logits: Tensor, labels: Tensor, *, alpha: float, beta: float) -> Tensor:
    return adp.terms(logits, labels, alpha=alpha, beta=beta)[0]


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
    found = loss(logits, labels, alpha=alpha, beta=beta).item()
    assert found == pytest.approx(twin(logits, labels, alpha, beta, adp.JITTER), rel=1e-12)


def test_terms_are_the_loss_and_its_parts() -> None:
    logits, labels = some_logits(3, 10)
    whole, cross_entropy, entropy, diversity = adp.terms(logits, labels, alpha=2.0, beta=0.5).tolist()
    assert cross_entropy == pytest.approx(twin(logits, labels, 0.0, 0.0, 0.0), rel=1e-12)
    assert entropy == pytest.approx(adp.prediction_entropy(logits).mean().item(), rel=1e-12)
    assert diversity == pytest.approx(adp.log_diversity(logits, labels).mean().item(), rel=1e-12)
    assert whole == pytest.approx(cross_entropy - 2 * entropy - 0.5 * diversity, rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.5), (2.0, 0.0), (0.0, 0.0)])
def test_a_weight_of_0_leaves_its_term_out(alpha: float, beta: float) -> None:
    logits, labels = some_logits(3, 10)
    _, _, entropy, diversity = adp.terms(logits, labels, alpha=alpha, beta=beta).tolist()
    assert (entropy != 0) == (alpha > 0)
    assert (diversity != 0) == (beta > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_objective_is_float64_whatever_the_networks_are(dtype: torch.dtype) -> None:
    logits, labels = some_logits(3, 10)
    rounded = logits.to(dtype)
    found = adp.terms(rounded, labels, alpha=2.0, beta=0.5)
    assert found.dtype == torch.float64
    assert found[0].item() == pytest.approx(twin(rounded.double(), labels, 2.0, 0.5, adp.JITTER), rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 8.0])
def test_temperature_divides_the_logits(temperature: float) -> None:
    """Appendix B.2."""
    logits, labels = some_logits(3, 10)
    found = adp.terms(logits, labels, alpha=2.0, beta=0.5, temperature=temperature)[0].item()
    assert found == pytest.approx(twin(logits / temperature, labels, 2.0, 0.5, adp.JITTER), rel=1e-12)


def test_an_endless_temperature_makes_all_classes_alike() -> None:
    logits, labels = some_logits(3, 10)
    _, cross_entropy, entropy, diversity = adp.terms(logits, labels, alpha=1.0, beta=1.0, temperature=1e12).tolist()
    assert cross_entropy == pytest.approx(3 * math.log(10), rel=1e-9)
    assert entropy == pytest.approx(math.log(10), rel=1e-9)
    # Three equal vectors: the Gram matrix has one eigenvalue of 3 and two of 0.
    assert diversity == pytest.approx(math.log(3 + adp.JITTER) + 2 * math.log(adp.JITTER), rel=1e-6)


def test_sampled_entropy_is_that_of_the_prediction_on_those_classes() -> None:
    logits, _ = some_logits(3, 10, count=2)
    classes = [[4, 0, 7], [1, 2, 9]]
    mean = softmax(logits.numpy(), axis=2).mean(axis=1)
    expected = []
    for prediction, chosen in zip(mean, classes, strict=True):
        part = prediction[chosen] / sum(prediction[chosen])
        expected.append(-sum(p * math.log(p) for p in part))
    found = adp.prediction_entropy(logits, classes=torch.tensor(classes))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_the_entropy_of_a_sample_of_all_classes_is_that_of_all() -> None:
    logits, _ = some_logits(3, 10)
    every = torch.from_numpy(np.random.default_rng(0).permuted(np.tile(np.arange(10), (6, 1)), axis=1))
    torch.testing.assert_close(
        adp.prediction_entropy(logits, classes=every), adp.prediction_entropy(logits), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(("members", "classes"), SIZES)
def test_js_divergence_is_eq_9(members: int, classes: int) -> None:
    logits, _ = some_logits(members, classes)
    probabilities = softmax(logits.numpy(), axis=2)
    expected = entropy(probabilities.mean(axis=1), axis=1) - entropy(probabilities, axis=2).mean(axis=1)
    np.testing.assert_allclose(adp.js_divergence(logits).numpy(), expected, rtol=1e-9)


def test_js_divergence_goes_from_0_to_log_k() -> None:
    alike = torch.randn(4, 1, 10, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1)
    apart = torch.zeros(1, 3, 10)
    apart[0, [0, 1, 2], [0, 1, 2]] = 1e4  # each certain of a class of its own
    assert adp.js_divergence(alike).abs().max().item() < 1e-12
    assert adp.js_divergence(apart).item() == pytest.approx(math.log(3), rel=1e-12)
    logits, _ = some_logits(3, 10, count=200, scale=5.0)
    assert (adp.js_divergence(logits) > 0).all()
    assert (adp.js_divergence(logits) < math.log(3)).all()


def test_prediction_is_the_mean_of_the_softmax() -> None:
    logits, _ = some_logits(3, 10)
    np.testing.assert_allclose(
        adp.log_prediction(logits).exp().numpy(), softmax(logits.numpy(), axis=2).mean(axis=1), rtol=1e-13
    )


@pytest.mark.parametrize(
    "name",
    ["loss", "tempered", "sampled", "js_divergence", "log_diversity", "prediction_entropy", "ensemble_cross_entropy"],
)
def test_gradients_are_those_of_the_values(name: str) -> None:
    logits, labels = some_logits(3, 5, count=3)
    functions = {
        "loss": lambda z: loss(z, labels, alpha=2.0, beta=0.5),
        "tempered": lambda z: adp.terms(z, labels, alpha=2.0, beta=0.5, temperature=4.0)[0],
        "sampled": lambda z: adp.prediction_entropy(z, classes=torch.tensor([[0, 2], [3, 4], [1, 0]])),
        "js_divergence": adp.js_divergence,
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
    loss(logits, labels, alpha=2.0, beta=0.5).backward()  # type: ignore[no-untyped-call]
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
    value = loss(logits, labels, alpha=2.0, beta=0.5)
    torch.autograd.backward(value)
    assert logits.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_a_logit_that_is_not_a_number_shows_in_the_loss() -> None:
    logits, labels = some_logits(3, 10)
    logits[2, 1, 3] = torch.nan
    assert loss(logits, labels, alpha=0.0, beta=0.5).isnan()
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
        (gradient,) = torch.autograd.grad(loss(logits, torch.tensor([4]), alpha=alpha, beta=0.0), logits)
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
        loss(torch.zeros(shape), torch.zeros(labels, dtype=torch.int64), alpha=2.0, beta=0.5)


@pytest.mark.parametrize("shape", [(4,), (3, 2)])
def test_refuses_a_sample_of_other_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"classes: expected shape \(4, m\), found \("):
        adp.prediction_entropy(torch.zeros(4, 3, 10), classes=torch.zeros(shape, dtype=torch.int64))
