"""C&W against a slow twin: one image at a time, with torch's own Adam, as the source has it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.imageset import ImageSet, as_floats
from tests.training.attacks.models import answered, perturbed
from training import Run, sample
from training.attacks import CarliniWagner, Objective, Targeted, Untargeted

# So few steps that rounding does not yet decide which way an image goes round the boundary.
ATTACK = CarliniWagner(c=0.5, steps=40, learning_rate=0.05, abort_early=False)


def twin(ensemble: nn.Module, image: Tensor, label: int, *, attack: CarliniWagner, sign: int) -> Tensor:
    """Sign 1 leaves the label, -1 reaches it."""
    w = torch.atanh((2 * image.double() - 1) * 0.999999).requires_grad_()
    optimiser = torch.optim.Adam([w], lr=attack.learning_rate)
    best, nearest = float("inf"), image
    for _ in range(attack.steps):
        changed = (torch.tanh(w) + 1) / 2
        log_f = ensemble(changed.float()[None]).double().softmax(dim=2).mean(dim=1).log()[0]
        ahead = log_f[label] - max(value for other, value in enumerate(log_f) if other != label)
        shortfall = torch.clamp(sign * ahead + attack.confidence, min=0)
        distance = (changed - image).square().sum()
        if shortfall == 0 and distance < best:
            best, nearest = distance.item(), changed.detach().float()
        w.grad = torch.autograd.grad(attack.c * shortfall + distance, w)[0]
        optimiser.step()
    return nearest


@pytest.mark.parametrize(("objective", "sign"), [(Untargeted, 1), (Targeted, -1)])
def test_it_is_its_slow_twin(objective: type[Objective], sign: int) -> None:
    ensemble, images, answers = answered(12)
    labels = answers if sign > 0 else (answers + 1) % 5
    found = perturbed(ensemble, images, labels, ATTACK, objective)
    twins = torch.stack([
        twin(ensemble, image, int(label), attack=ATTACK, sign=sign) for image, label in zip(images, labels, strict=True)
    ])  # fmt: skip
    changed = (found != images).flatten(1).any(dim=1)
    assert torch.equal(changed, (twins != images).flatten(1).any(dim=1))
    assert 2 < changed.sum() < len(images)
    np.testing.assert_allclose(found.numpy(), twins.numpy(), atol=1e-4)


def test_black_and_white_values_move_too() -> None:
    ensemble, images, labels = answered(24)
    at_an_end = (images == 0) | (images == 1)
    found = perturbed(ensemble, images, labels, CarliniWagner(c=20.0, steps=200, learning_rate=0.1))
    assert ((found - images).abs()[at_an_end] > 0.01).any()
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_first_step_moves_the_variable_of_black_and_white_as_of_any() -> None:
    images = torch.tensor([0.0, 0.5, 1.0, 0.25]).reshape(1, 1, 2, 2)
    start = ATTACK.start(images)
    before = start.memory[0].clone()
    after = ATTACK.step(start, torch.ones_like(images), 0).memory[0]
    np.testing.assert_allclose((before - after).numpy(), ATTACK.learning_rate, rtol=0.02)


def test_stopping_early_costs_next_to_nothing(run: Run, validation: ImageSet) -> None:
    some = sample(validation, 12)
    ensemble, _ = run.trained()
    ensemble.requires_grad_(requires_grad=False)
    images, labels = torch.from_numpy(as_floats(some.images)), torch.from_numpy(np.asarray(some.labels))
    seen: list[int] = []
    ensemble.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    norms, work = [], []
    for abort_early in (True, False):
        attack = CarliniWagner(c=0.5, steps=300, learning_rate=0.03, abort_early=abort_early)
        seen.clear()
        norms.append((perturbed(ensemble, images, labels, attack) - images).flatten(1).norm(dim=1))
        work.append(sum(seen))
    early, late = norms
    assert torch.equal(early > 0, late > 0)
    assert early.mean() < 1.02 * late.mean()
    assert work[0] < 0.9 * work[1]
