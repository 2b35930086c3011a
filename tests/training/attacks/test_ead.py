"""EAD against a slow twin: one image and one value at a time, as the source has it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.attacks.models import answered, perturbed
from training.attacks import EAD, DecisionRule, Objective, Targeted, Untargeted

# So few steps that rounding does not yet decide which way an image goes round the boundary.
ATTACK = EAD(c=2.0, beta=0.02, steps=80, learning_rate=0.02, abort_early=False)


def log_f(ensemble: nn.Module, pixels: Tensor) -> Tensor:
    logits: Tensor = ensemble(pixels.float()[None])
    return logits.double().softmax(dim=2).mean(dim=1).log()[0]


def shortfall(values: Tensor, label: int, *, sign: int, confidence: float) -> Tensor:
    ahead = values[label] - max(value for other, value in enumerate(values) if other != label)
    return torch.clamp(sign * ahead + confidence, min=0)


def shrink(value: float, clean: float, beta: float) -> float:
    if value - clean > beta:
        return min(value - beta, 1.0)
    if value - clean < -beta:
        return max(value + beta, 0.0)
    return clean


def twin(ensemble: nn.Module, image: Tensor, label: int, *, attack: EAD, sign: int) -> Tensor:
    """Sign 1 leaves the label, -1 reaches it."""
    clean = image.double()
    last = y = clean
    best, nearest = math.inf, image
    for k in range(attack.steps):
        at = y.clone().requires_grad_()
        smooth = (at - clean).square().sum() + attack.c * shortfall(
            log_f(ensemble, at), label, sign=sign, confidence=attack.confidence
        )
        (slope,) = torch.autograd.grad(smooth, at)
        moved = y - attack.learning_rate * math.sqrt(1 - k / attack.steps) * slope
        x = torch.tensor([
            shrink(value, start, attack.beta)
            for value, start in zip(moved.flatten().tolist(), clean.flatten().tolist(), strict=True)
        ], dtype=torch.float64).view_as(clean)  # fmt: skip
        y, last = x + k / (k + 3) * (x - last), x
        l1 = (x - clean).abs().sum().item()
        size = l1 if attack.rule == DecisionRule.L1 else attack.beta * l1 + (x - clean).square().sum().item()
        if size < best and shortfall(log_f(ensemble, x), label, sign=sign, confidence=attack.confidence) == 0:
            best, nearest = size, x.float()
    return nearest


@pytest.mark.parametrize(
    ("objective", "sign", "rule"),
    [(Untargeted, 1, DecisionRule.EN), (Untargeted, 1, DecisionRule.L1), (Targeted, -1, DecisionRule.EN)],
    ids=["away", "away-by-l1", "towards"],
)
def test_it_is_its_slow_twin(objective: type[Objective], sign: int, rule: DecisionRule) -> None:
    ensemble, images, answers = answered(12)
    labels = answers if sign > 0 else (answers + 1) % 5
    attack = replace(ATTACK, rule=rule)
    found = perturbed(ensemble, images, labels, attack, objective)
    twins = torch.stack([
        twin(ensemble, image, int(label), attack=attack, sign=sign) for image, label in zip(images, labels, strict=True)
    ])  # fmt: skip
    changed = (found != images).flatten(1).any(dim=1)
    assert 2 < changed.sum() < len(images)
    np.testing.assert_allclose(found.numpy(), twins.numpy(), atol=1e-4)


def test_values_that_need_no_change_keep_their_bits() -> None:
    ensemble, images, labels = answered(24)
    found = perturbed(ensemble, images, labels, ATTACK)
    changed = (found != images).flatten(1)
    reached = changed.any(dim=1)
    assert reached.sum() > 2
    assert changed[reached].double().mean() < 0.5
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_last_step_counts() -> None:
    ensemble, images, labels = answered(12)
    found = perturbed(ensemble, images, labels, EAD(c=20.0, steps=1, learning_rate=0.1))
    changed = (found != images).flatten(1).any(dim=1)
    assert changed.any()
    with torch.no_grad():
        assert Untargeted(labels[changed]).succeeded(ensemble(found[changed])).all()
