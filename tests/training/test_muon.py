"""Muon against singular values, against SGD, and against itself one kernel at a time."""

import copy

import pytest
import torch
from torch import nn

import training.muon
from training import TrainConfig
from training.muon import Muon, orthogonal
from training.optimiser import build_optimiser, set_learning_rates


def network() -> nn.Module:
    layers = (nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(96, 5))
    return nn.Sequential(*layers).double()


def members(count: int = 3) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList(network() for _ in range(count))


def slopes(nets: nn.ModuleList, seed: int) -> None:
    """Some gradient for everything."""
    rng = torch.Generator().manual_seed(seed)
    for weight in nets.parameters():
        weight.grad = torch.randn(weight.shape, generator=rng, dtype=weight.dtype)


def step(nets: nn.ModuleList, *, rate: float | tuple[float, ...] = 0.02, steps: int = 1) -> torch.optim.Optimizer:
    config = TrainConfig(optimiser="muon", learning_rate=rate, schedule="constant")
    optimiser = build_optimiser(nets, config)
    for number in range(steps):
        slopes(nets, number)
        set_learning_rates(optimiser, config, 0.0)
        optimiser.step()
    return optimiser


@pytest.mark.parametrize("smallest", [1.0, 1e-3, 0.0], ids=str)
@pytest.mark.parametrize("shape", [(16, 24), (16, 25), (64, 576), (90, 9), (1, 5)], ids=str)
def test_long_matrices_are_orthogonalised_as_others_are(shape: tuple[int, int], smallest: float) -> None:
    """Against the polynomials as they are written down, in float64; in float32 too, where squares lose digits."""
    rng = torch.Generator().manual_seed(2)
    left, _, right = torch.linalg.svd(torch.randn(2, *shape, generator=rng, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -6, min(shape), dtype=torch.float64).clamp(min=smallest)
    matrices = left * values @ right
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.mT @ x + 2.0315 * x @ x.mT @ x @ x.mT @ x
    x /= min(shape) ** 0.5
    torch.testing.assert_close(orthogonal(matrices), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(orthogonal(matrices.float()).double(), x, rtol=0, atol=1e-3 / min(shape) ** 0.5)


@pytest.mark.parametrize("shape", [(16, 27), (64, 576), (40, 9), (8, 8), (1, 5)], ids=str)
def test_singular_values_become_alike_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(1)
    matrices = (
        torch.randn(3, *shape, generator=rng, dtype=torch.float64) * torch.tensor([1e-6, 1.0, 1e6])[:, None, None]
    )
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    middle = left.mT @ orthogonal(matrices) @ right.mT * min(shape) ** 0.5
    values = middle.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(middle, torch.diag_embed(values), rtol=0, atol=1e-9)
    assert 0.6 < values.min() <= values.max() < 1.25


def test_matrices_of_few_digits_do_as_well() -> None:
    """Where squares would lose the small singular values, and end anywhere."""
    rng = torch.Generator().manual_seed(3)
    left, _, right = torch.linalg.svd(torch.randn(1, 64, 576, generator=rng), full_matrices=False)
    matrices = (left * torch.logspace(0, -6, 64) @ right).bfloat16()
    assert torch.linalg.matrix_norm(orthogonal(matrices).double(), ord=2).item() * 8 < 1.25


@pytest.mark.parametrize(
    ("shape", "precision", "through_squares"),
    [((4, 7), "highest", True), ((7, 4), "highest", True), ((4, 6), "highest", False), ((4, 7), "high", False)],
    ids=["long", "high", "square", "tf32"],
)
def test_squares_are_worked_on_where_that_is_less_and_products_have_all_digits(
    shape: tuple[int, int], precision: str, through_squares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def noting(matrices: torch.Tensor) -> torch.Tensor:
        taken.append(tuple(matrices.shape))
        return matrices

    monkeypatch.setattr(training.muon, "_through_gram", noting)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        orthogonal(torch.ones(1, *shape))
    finally:
        torch.set_float32_matmul_precision(before)
    assert taken == [(1, 4, 7)] * through_squares


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not orthogonal(torch.zeros(2, 3, 4)).any()


def test_kernels_keep_their_norm_and_turn_by_the_learning_rate() -> None:
    nets = members()
    before = copy.deepcopy(nets)
    step(nets, rate=0.02)
    for now, then in zip(nets.parameters(), before.parameters(), strict=True):
        if now.ndim == 4:
            assert now.norm().item() == pytest.approx(then.norm().item(), rel=1e-12)
            cosine = nn.functional.cosine_similarity(now.flatten(), then.flatten(), dim=0)
            assert torch.arccos(cosine).item() == pytest.approx(0.02, rel=0.35)


def test_everything_else_moves_as_under_sgd() -> None:
    nets = members()
    twin = copy.deepcopy(nets)
    step(nets, rate=0.02, steps=3)
    rest = [weight for weight in twin.parameters() if weight.ndim != 4]
    sgd = torch.optim.SGD(rest, lr=0.04, momentum=0.9, nesterov=True)
    for number in range(3):
        slopes(twin, number)
        sgd.step()
    moved = [weight for weight in nets.parameters() if weight.ndim != 4]
    for now, expected in zip(moved, rest, strict=True):
        torch.testing.assert_close(now, expected, rtol=1e-12, atol=0)


def test_kernels_that_go_together_go_as_they_would_alone() -> None:
    """Against a plain loop: momentum, one kernel at a time, the step, the norm."""
    nets = members()
    kernels = [weight.detach().clone() for weight in nets.parameters() if weight.ndim == 4]
    norms, momenta = [kernel.norm() for kernel in kernels], [torch.zeros_like(kernel) for kernel in kernels]
    for number in range(3):
        slopes(nets, number)
        gradients = [weight.grad for weight in nets.parameters() if weight.ndim == 4]
        for kernel, norm, momentum, gradient in zip(kernels, norms, momenta, gradients, strict=True):
            assert gradient is not None
            momentum.copy_(0.9 * momentum + gradient)
            hurried = (gradient + 0.9 * momentum).flatten(1)
            kernel.sub_(0.02 * norm * orthogonal(hurried[None])[0].view_as(kernel))
            kernel.mul_(norm / kernel.norm())
    step(nets, rate=0.02, steps=3)
    for weight, kernel in zip([weight for weight in nets.parameters() if weight.ndim == 4], kernels, strict=True):
        torch.testing.assert_close(weight.detach(), kernel, rtol=1e-10, atol=1e-12)


def test_each_member_moves_by_its_own_rate() -> None:
    nets, slow = members(), members()
    step(nets, rate=(0.01, 0.02, 0.04))
    step(slow, rate=0.01)
    same = [all(torch.equal(one, two) for one, two in zip(a.parameters(), b.parameters(), strict=True))
            for a, b in zip(nets, slow, strict=True)]  # fmt: skip
    assert same == [True, False, False]


def test_a_member_without_gradients_stands_still() -> None:
    nets = members()
    optimiser = step(nets)
    before = copy.deepcopy(nets)
    slopes(nets, 9)
    nets[1].zero_grad(set_to_none=True)
    optimiser.step()
    still = [all(torch.equal(one, two) for one, two in zip(now.parameters(), then.parameters(), strict=True))
             for now, then in zip(nets, before, strict=True)]  # fmt: skip
    assert still == [False, True, False]


def test_its_state_is_all_that_it_remembers() -> None:
    nets = members()
    optimiser = step(nets, steps=2)
    twin = copy.deepcopy(nets)
    config = TrainConfig(optimiser="muon", learning_rate=0.02, schedule="constant")
    other = build_optimiser(twin, config)
    other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for one, net in ((optimiser, nets), (other, twin)):
        slopes(net, 5)
        one.step()
    assert isinstance(other, Muon)
    assert all(torch.equal(a, b) for a, b in zip(nets.parameters(), twin.parameters(), strict=True))
