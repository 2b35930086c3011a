"""One update: what it is made of, and that a recorded one is the same."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training import TrainConfig, adp
from training.augment import AUGMENTATIONS
from training.ensemble import Ensemble, build_ensemble
from training.feed import floats
from training.growth import shrink
from training.optimiser import build_optimiser, restore_optimiser, set_learning_rates
from training.recording import Recording
from training.update import Update

SHAPE = (3, 16, 16)
COUNT = 8


def some_ensemble(device: str = "cpu", arch: str = "cnn") -> Ensemble:
    mean, std = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.3)
    built = build_ensemble(arch, members=3, image_shape=SHAPE, classes=10, mean=mean, std=std, seed=0)
    return built.to(device).train()


def some_batches(steps: int) -> list[tuple[Tensor, Tensor, Any]]:
    """Images in 8 bits, labels, and draws for `shift-flip`."""
    rng = np.random.default_rng(3)
    return [
        (torch.from_numpy(rng.integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)),
         torch.from_numpy(rng.integers(0, 10, COUNT)), rng.random((COUNT, 3), dtype=np.float32))
        for _ in range(steps)
    ]  # fmt: skip


def settings(**others: Any) -> TrainConfig:
    return TrainConfig(**{"schedule": "one-cycle", "augment": "shift-flip", **others})


def weights(ensemble: nn.Module) -> Tensor:
    return torch.cat([value.detach().cpu().double().flatten() for value in ensemble.state_dict().values()])


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "muon"])
def test_an_update_is_its_parts_one_after_another(optimiser: str) -> None:
    config = settings(optimiser=optimiser)
    ensemble, twin = some_ensemble(), some_ensemble()
    update, by_hand = Update(ensemble, config), build_optimiser(twin.members, config)
    for step, (images, labels, table) in enumerate(some_batches(3)):
        found = update(images, labels, table, done=step / 3, size=(12, 12))
        varied = shrink(AUGMENTATIONS["shift-flip"].vary(floats(images), torch.from_numpy(table)), (12, 12))
        by_hand.zero_grad()
        terms = adp.terms(twin(varied), labels, alpha=2.0, beta=0.5)
        torch.autograd.backward(terms[0])
        set_learning_rates(by_hand, config, step / 3)
        by_hand.step()
        torch.testing.assert_close(found, terms.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(weights(ensemble), weights(twin), rtol=1e-5, atol=1e-7)


def test_members_that_are_frozen_stay_as_they_are() -> None:
    ensemble = some_ensemble()
    before = [weights(member) for member in ensemble.members]
    ensemble.members[1].eval()
    ((images, labels, table),) = some_batches(1)
    Update(ensemble, settings())(images, labels, table, done=0.5, size=SHAPE[1:], frozen=frozenset({1}))
    moved = [not torch.equal(weights(member), start) for member, start in zip(ensemble.members, before, strict=True)]
    assert moved == [True, False, True]


def test_on_a_cpu_nothing_is_recorded() -> None:
    assert not isinstance(Update(some_ensemble(), settings(compile=True))._run, Recording)


@pytest.mark.gpu
@pytest.mark.parametrize("optimiser", ["adam", "sgd", "muon"])
def test_recorded_updates_are_those_of_plain_code(optimiser: str) -> None:
    """Through a change of who learns and of the images' size, each of which is recorded anew."""
    torch.backends.cudnn.allow_tf32 = False
    moved: list[Tensor] = []
    for compiled in (False, True):
        ensemble, batches = some_ensemble("cuda"), some_batches(20)
        start = weights(ensemble)
        update = Update(ensemble, settings(optimiser=optimiser, compile=compiled))
        assert isinstance(update._run, Recording) == compiled
        for step, (images, labels, table) in enumerate(batches):
            frozen = frozenset({1}) if step >= 14 else frozenset()
            ensemble.members[1].train(not frozen)
            update(images.cuda(), labels.cuda(), table, done=step / 20, frozen=frozen,
                   size=(12, 12) if step < 7 else SHAPE[1:])  # fmt: skip
        moved.append(weights(ensemble) - start)
    plain, recorded = moved
    assert float((plain - recorded).norm() / plain.norm()) < 0.02


@pytest.mark.gpu
def test_a_recorded_run_goes_on_from_the_state_of_a_plain_one() -> None:
    ensemble = some_ensemble("cuda")
    plain = Update(ensemble, settings())
    for images, labels, table in some_batches(2):
        plain(images.cuda(), labels.cuda(), table, done=0.3, size=SHAPE[1:])
    state = copy.deepcopy(plain.optimiser.state_dict())
    recorded = Update(ensemble, settings(compile=True))
    restore_optimiser(recorded.optimiser, state)
    for images, labels, table in some_batches(6):
        assert recorded(images.cuda(), labels.cuda(), table, done=0.5, size=SHAPE[1:]).isfinite().all()
