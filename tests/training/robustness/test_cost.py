"""How many gradients an attack takes: what is said beforehand against what is counted."""

import pytest
import torch
from torch import Tensor

from detector.scores.log_diversity import LogDiversity
from detector.threshold import Threshold
from tests.training.attacks.models import Linear, answered, perturbed
from training.attacks import EAD, MIM, PGD, Attack, CarliniWagner, DetectorAware
from training.robustness.cost import gradients

NEVER = Threshold(overall=1e6)


class Counting(Linear):
    """Counts how often it is asked with a gradient in mind."""

    asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += torch.is_grad_enabled() and images.requires_grad
        return super().forward(images)


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=0.1),
        PGD(eps=1e-6, restarts=3),
        CarliniWagner(c=1.0, steps=7, binary_search_steps=2, abort_early=False),
        EAD(c=1.0, steps=7, abort_early=False),
        DetectorAware(attack=MIM(eps=0.1, steps=5), score=LogDiversity(), threshold=NEVER, weights=(1.0, 2.0)),
        DetectorAware(attack=PGD(eps=1e-6, restarts=2), score=LogDiversity(), threshold=NEVER, weights=(1.0,)),
        DetectorAware(attack=EAD(c=1.0, steps=7, abort_early=False), score=LogDiversity(), threshold=NEVER),
    ],
    ids=lambda attack: attack.name,
)
def test_an_image_that_never_gives_in_takes_as_many_as_is_said(attack: Attack) -> None:
    ensemble, images, labels = answered(1)
    counting = Counting(ensemble.weights)
    perturbed(counting, images, labels, attack)
    assert counting.asked == gradients(attack, 16)
