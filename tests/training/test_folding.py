"""Batch normalisation folded into convolutions: the same answers and gradients, and what is left as it is."""

import pytest
import torch
from torch import Tensor, nn

from training.attacks.gradient import gradient
from training.attacks.loss import ensemble_loss
from training.ensemble import Ensemble, Member, build_ensemble
from training.folding import folded

SHAPE = (3, 16, 16)


def ensemble_of(network: nn.Module) -> Ensemble:
    """One member, as an attack takes it."""
    return Ensemble([Member(network, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))]).eval().requires_grad_(False)


def built(arch: str) -> Ensemble:
    """Untrained, and normalised as if it were not: by other numbers than 0 and 1."""
    mean = torch.full((3, 1, 1), 0.4)
    ensemble = build_ensemble(arch, members=3, image_shape=SHAPE, classes=10, mean=mean, std=mean / 2, seed=1)
    generator = torch.Generator().manual_seed(0)
    for module in ensemble.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.weight, module.bias):
                assert values is not None
                values.data.normal_(0.5, 0.2, generator=generator)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return ensemble.eval().requires_grad_(requires_grad=False)


def some_images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2))


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("arch", ["cnn", "resnet20", "resnet18"], ids=["cnn", "resnet20", "torchvision's"])
def test_the_same_answers_and_gradients_but_for_rounding(arch: str) -> None:
    own, images = built(arch), some_images()
    found = folded(own, SHAPE)
    assert norms(own) > 0
    assert norms(found) == 0
    labels = torch.arange(6)
    expected, other = (gradient(each, images, lambda logits: ensemble_loss(logits, labels)) for each in (own, found))
    for name in ("logits", "values", "direction"):
        exact = getattr(expected, name)
        torch.testing.assert_close(getattr(other, name), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))


def test_the_networks_themselves_stay_as_they_are() -> None:
    own, images = built("cnn"), some_images()
    state, before = {name: each.clone() for name, each in own.state_dict().items()}, own(images)
    found = folded(own, SHAPE)
    assert torch.equal(own(images), before)
    assert all(torch.equal(each, state[name]) for name, each in own.state_dict().items())
    assert not any(each.requires_grad for each in found.parameters())
    assert not any(module.training for module in found.modules())


def test_a_norm_after_no_convolution_stays() -> None:
    own = ensemble_of(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    found = folded(own, SHAPE)
    assert norms(found) == 1
    torch.testing.assert_close(found(some_images()), own(some_images()))


class Depends(nn.Module):
    """Cannot be traced: which way it goes depends on the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits if images.mean() > 0 else -logits


class Shared(nn.Module):
    """A convolution before two norms, which cannot be part of both."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        with torch.no_grad():
            self.first.weight.fill_(2.0)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.second(self.convolution(self.first(self.convolution(images))))
        return hidden.flatten(1)


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()), Depends(), Shared()],
    ids=["without norms", "cannot be traced", "answers differently"],
)
def test_a_member_that_cannot_be_folded_is_taken_as_it_is(network: nn.Module) -> None:
    own = ensemble_of(network)
    assert folded(own, SHAPE).members[0] is own.members[0]


def test_members_are_folded_one_by_one() -> None:
    own = built("cnn")
    plain = ensemble_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)))
    mixed = Ensemble([*own.members, *plain.members]).eval()
    found = folded(mixed, SHAPE)
    assert [norms(member) for member in found.members] == [0, 0, 0, 0]
    assert found.members[3] is mixed.members[3]
