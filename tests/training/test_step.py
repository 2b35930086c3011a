"""One step: the gradients of Algorithm 1, however they are come by."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training import TrainConfig, adp
from training.ensemble import Ensemble, build_ensemble
from training.optimiser import build_optimiser, set_learning_rates
from training.step import EPS, Step, half_attacked, sampled

SHAPE = (1, 8, 8)
NOBODY: frozenset[int] = frozenset()


def some_ensemble(arch: str = "cnn", *, members: int = 3) -> Ensemble:
    mean, std = torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 0.4)
    return build_ensemble(arch, members=members, image_shape=SHAPE, classes=10, mean=mean, std=std, seed=0)


def some_batch(count: int = 16) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.random((count, *SHAPE), dtype=np.float32))
    return images, torch.from_numpy(rng.integers(10, size=count))


def gradients(ensemble: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in ensemble.named_parameters() if value.grad is not None}


def states_equal(first: nn.Module, second: nn.Module) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def run(
    ensemble: Ensemble, images: Tensor, labels: Tensor, *, frozen: frozenset[int] = NOBODY, **settings: Any
) -> Tensor:
    """A step from the same random state, as the trainer would take it."""
    for k, member in enumerate(ensemble.members):
        member.train(k not in frozen)
    torch.manual_seed(5)
    return Step(ensemble, TrainConfig(**settings))(images, labels, frozen=frozen, classes=None)


def test_gradients_are_those_of_the_objective() -> None:
    ensemble, (images, labels) = some_ensemble().double(), some_batch()
    found = run(ensemble, images.double(), labels)
    twin = some_ensemble().double().train()
    expected = adp.terms(twin(images.double()), labels, alpha=2.0, beta=0.5)
    torch.autograd.backward(expected[0])
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(ensemble), gradients(twin), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("arch", ["cnn", "own_networks:Dropping"])
@pytest.mark.parametrize("frozen", [NOBODY, frozenset({1})], ids=["all-learn", "one-frozen"])
def test_sequential_training_has_the_gradients_of_simultaneous(arch: str, frozen: frozenset[int]) -> None:
    """Section 3.1: on the same draws of dropout, and with the same statistics of batch normalisation after it."""
    images, labels = some_batch()
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        found = []
        for sequential in (False, True):
            ensemble = some_ensemble(arch).to(dtype)
            terms = run(ensemble, images.to(dtype), labels, frozen=frozen, sequential=sequential)
            found.append((terms, gradients(ensemble), dict(ensemble.named_buffers()), torch.get_rng_state()))
        together, one_by_one = found
        torch.testing.assert_close(one_by_one[0], together[0], rtol=tolerance, atol=0)
        assert one_by_one[1].keys() == together[1].keys()
        for name, gradient in one_by_one[1].items():
            largest = together[1][name].abs().max().item()
            torch.testing.assert_close(gradient, together[1][name], rtol=0, atol=tolerance * largest + 1e-12)
        torch.testing.assert_close(one_by_one[2], together[2], rtol=tolerance, atol=0)
        assert torch.equal(one_by_one[3], together[3])


def test_dropout_draws_for_each_member() -> None:
    """Else the test above would say nothing about dropout."""
    ensemble, (images, labels) = some_ensemble("own_networks:Dropping"), some_batch()
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(Step(ensemble.train(), TrainConfig())(images, labels, frozen=NOBODY, classes=None)[0].item())
    assert losses[0] == losses[1] != losses[2]


@contextmanager
def peak_of_saved_bytes() -> Iterator[list[int]]:
    """The most bytes that autograd holds for backward passes at once."""
    alive, peak = [0], [0]

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor
            alive[0] += tensor.nbytes
            peak[0] = max(peak[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= self.tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        yield peak


def test_sequential_training_holds_one_members_activations_at_a_time() -> None:
    images, labels = some_batch()
    peaks = []
    for sequential in (False, True):
        ensemble = some_ensemble(members=4)
        with peak_of_saved_bytes() as peak:
            run(ensemble, images, labels, sequential=sequential, members=4)
        peaks.append(peak[0])
    assert peaks[1] < 0.3 * peaks[0]


def test_a_frozen_member_counts_and_learns_nothing() -> None:
    ensemble, (images, labels) = some_ensemble().double(), some_batch()
    images = images.double()
    twin = copy.deepcopy(ensemble)
    before = copy.deepcopy(ensemble.members[1])
    run(ensemble, images, labels, frozen=frozenset({1}))
    assert states_equal(ensemble.members[1], before)
    assert not gradients(ensemble.members[1])

    logits = [member.train(k != 1)(images) for k, member in enumerate(twin.members)]
    torch.autograd.backward(adp.terms(torch.stack(logits, dim=1), labels, alpha=2.0, beta=0.5)[0])
    expected = {name: value for name, value in gradients(twin).items() if "members.1." not in name}
    torch.testing.assert_close(gradients(ensemble), expected, rtol=1e-10, atol=1e-14)
    # Its logits matter: without it, the others would be pulled elsewhere.
    others: Any = copy.deepcopy(twin)
    nn.init.zeros_(others.members[1].network.head.weight)
    run(others, images, labels, frozen=frozenset({1}))
    assert not torch.allclose(
        gradients(others)["members.0.network.head.weight"], expected["members.0.network.head.weight"], rtol=1e-3
    )


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_the_baseline_is_each_member_trained_alone(optimiser: str) -> None:
    """Section 3.1: with alpha = beta = 0."""
    config = TrainConfig(alpha=0.0, beta=0.0, optimiser=optimiser, learning_rate=1e-2, schedule="constant")
    images, labels = some_batch()
    images = images.double()
    ensemble = some_ensemble().double().train()
    step, joint = Step(ensemble, config), build_optimiser(ensemble.members, config)
    for _ in range(5):
        step(images, labels, frozen=NOBODY, classes=None)
        set_learning_rates(joint, config, 0.0)
        joint.step()

    for k, member in enumerate(some_ensemble().double().train().members):
        alone: torch.optim.Optimizer = torch.optim.Adam(member.parameters(), lr=1e-2)
        if optimiser == "sgd":
            alone = torch.optim.SGD(member.parameters(), lr=1e-2, momentum=0.9, nesterov=True)
        for _ in range(5):
            alone.zero_grad()
            torch.autograd.backward(functional.cross_entropy(member(images), labels))
            alone.step()
        torch.testing.assert_close(ensemble.members[k].state_dict(), member.state_dict(), rtol=1e-9, atol=1e-12)


def test_algorithm_1_a_learning_rate_per_member_is_an_optimiser_per_member() -> None:
    rates = (1e-3, 1e-2, 3e-2)
    config = TrainConfig(learning_rate=rates, schedule="constant")
    images, labels = some_batch()
    images = images.double()
    ensemble, twin = some_ensemble().double().train(), some_ensemble().double().train()
    step, joint = Step(ensemble, config), build_optimiser(ensemble.members, config)
    optimisers = [torch.optim.Adam(m.parameters(), lr=rate) for m, rate in zip(twin.members, rates, strict=True)]
    for _ in range(5):
        step(images, labels, frozen=NOBODY, classes=None)
        set_learning_rates(joint, config, 0.0)
        joint.step()
        twin.zero_grad()
        torch.autograd.backward(adp.terms(twin(images), labels, alpha=2.0, beta=0.5)[0])
        for optimiser in optimisers:
            optimiser.step()
    torch.testing.assert_close(ensemble.state_dict(), twin.state_dict(), rtol=1e-8, atol=1e-11)


def test_adp_2_0_leaves_the_log_diversity_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, (images, labels) = some_ensemble(), some_batch()
    monkeypatch.setattr(adp, "log_diversity", lambda *_: pytest.fail("computed"))
    *_, entropy, diversity = run(ensemble, images, labels, alpha=2.0, beta=0.0).tolist()
    assert entropy > 0
    assert diversity == 0


@pytest.mark.parametrize("sequential", [False, True])
def test_mixed_precision_keeps_the_objective_in_float64(sequential: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, (images, labels) = some_ensemble(), some_batch(4)
    given: list[torch.dtype] = []
    eliminated: list[torch.dtype] = []
    terms, diversity = adp.terms, adp.log_diversity

    def seen(logits: Tensor, labels: Tensor, **settings: Any) -> Tensor:
        given.append(logits.dtype)
        return terms(logits, labels, **settings)

    def found_by(logits: Tensor, labels: Tensor) -> Tensor:
        found = diversity(logits, labels)
        eliminated.append(found.dtype)
        return found

    monkeypatch.setattr(adp, "terms", seen)
    monkeypatch.setattr(adp, "log_diversity", found_by)
    found = run(ensemble, images, labels, precision="bfloat16", sequential=sequential)
    assert given == [torch.bfloat16]  # the networks computed in it
    assert eliminated == [torch.float64]
    assert found.dtype == torch.float64
    assert {value.dtype for value in gradients(ensemble).values()} == {torch.float32}
    exact = run(some_ensemble(), images, labels)
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [False, True])
def test_compiled_networks_have_the_same_gradients(sequential: bool) -> None:
    images, labels = some_batch()
    plain, compiled = some_ensemble(), some_ensemble()
    expected = run(plain, images, labels)
    found = run(compiled, images, labels, compile=True, sequential=sequential)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(compiled), gradients(plain), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dict(compiled.named_buffers()), dict(plain.named_buffers()), rtol=1e-5, atol=1e-6)


def attacked(ensemble: Ensemble, adversary: str, key: tuple[int, int, int] = (0, 1, 2), count: int = 17) -> Tensor:
    images, labels = some_batch(count)
    return half_attacked(ensemble, images, labels, np.arange(count), adversary=adversary, key=key)


@pytest.mark.parametrize("adversary", ["fgsm", "pgd"])
def test_half_of_the_batch_is_attacked_within_the_papers_range(adversary: str) -> None:
    """Table 4."""
    images, _ = some_batch(17)
    found = attacked(some_ensemble(), adversary)
    assert torch.equal(found[8:], images[8:])
    distance = (found[:8].double() - images[:8].double()).abs().amax(dim=(1, 2, 3))
    assert (distance > 0).all()
    assert distance.max().item() <= EPS[1]
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.dtype == torch.float32
    assert not found.requires_grad


def test_eps_is_uniform_over_the_papers_range_and_keyed() -> None:
    """An FGSM step goes all of eps."""
    ensemble, (images, _) = some_ensemble(), some_batch(2)

    def eps(*key: int) -> float:
        found = attacked(ensemble, "fgsm", key, count=2)  # type: ignore[arg-type]
        return (found.double() - images.double()).abs().max().item()

    drawn = np.array([eps(0, 0, step) for step in range(100)])
    assert drawn.min() >= 0.01 - 1e-7
    assert drawn.max() <= 0.05
    assert np.histogram(drawn, bins=4, range=(0.01, 0.05))[0].min() > 12
    assert eps(0, 0, 7) == drawn[7]
    assert len({eps(0, 0, 7), eps(0, 1, 7), eps(1, 0, 7)}) == 3


def test_starting_points_are_keyed_by_seed_and_epoch() -> None:
    ensemble = some_ensemble()
    first, again = (attacked(ensemble, "pgd", (3, 1, 2)) for _ in range(2))
    assert torch.equal(first, again)
    for key in ((4, 1, 2), (3, 2, 2)):
        assert not torch.equal(first, attacked(ensemble, "pgd", key))


@pytest.mark.parametrize("adversary", ["fgsm", "pgd"])
def test_making_the_attack_leaves_no_trace(adversary: str) -> None:
    ensemble = some_ensemble("own_networks:Dropping")
    for k, member in enumerate(ensemble.members):
        member.train(k != 1)
    before = copy.deepcopy(ensemble)
    modes = [module.training for module in ensemble.modules()]
    random = torch.get_rng_state()
    attacked(ensemble, adversary)
    assert states_equal(ensemble, before)
    assert not gradients(ensemble)
    assert [module.training for module in ensemble.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)


def test_modes_come_back_from_an_attack_that_fails() -> None:
    ensemble = some_ensemble().train()
    with pytest.raises(RuntimeError):
        half_attacked(ensemble, torch.rand(4, 2, 8, 8), torch.zeros(4, dtype=torch.int64), np.arange(4),
                      adversary="fgsm", key=(0, 0, 0))  # fmt: skip
    assert all(module.training for module in ensemble.modules())


@pytest.mark.parametrize("count", [1, 4, 9])
def test_sampled_classes_are_the_label_and_others(count: int) -> None:
    labels = torch.arange(10).repeat(300)
    found = sampled(labels, np.random.default_rng(0).random((3000, 9)), count)
    assert found.dtype == torch.int64
    assert found.shape == (3000, 1 + count)
    assert torch.equal(found[:, 0], labels)
    assert all(len(set(row)) == 1 + count for row in found.tolist())
    # Every other class about as often.
    times = torch.zeros(10, 10).index_put_(
        (labels[:, None].expand(-1, count), found[:, 1:]), torch.tensor(1.0), accumulate=True
    )
    off_diagonal = times[~torch.eye(10, dtype=torch.bool)]
    assert not times.diagonal().any()
    assert (off_diagonal - 300 * count / 9).abs().max().item() <= 5 * np.sqrt(300 * count / 9)


def test_a_sample_follows_from_its_own_row() -> None:
    """What lets processes share a batch."""
    labels, table = torch.arange(10), np.random.default_rng(0).random((10, 9))
    whole = sampled(labels, table, 3)
    for rank in range(2):
        assert torch.equal(sampled(labels[rank::2], table[rank::2], 3), whole[rank::2])
