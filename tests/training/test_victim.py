"""The networks that are attacked: all or one, and the copy that gradients run through."""

import pytest
import torch
from torch import nn

from detector.errors import InputError
from detector.imageset import ImageSet
from training import Run
from training.victim import Victim


@pytest.fixture(scope="module")
def victim(run: Run) -> Victim:
    return Victim.open(run)


def test_nothing_of_it_is_trained_any_more(victim: Victim) -> None:
    for ensemble in (victim.ensemble, victim.folded):
        assert not any(parameter.requires_grad for parameter in ensemble.parameters())
        assert not any(module.training for module in ensemble.modules())


def test_a_member_alone_answers_as_it_does_among_all(victim: Victim, validation: ImageSet) -> None:
    images = torch.from_numpy(validation.images[:8])
    for whole, one in ((victim.ensemble, victim.member), (victim.folded, victim.folded_member)):
        assert one(None) is whole
        for index in range(3):
            assert torch.equal(one(index)(images), whole(images)[:, [index]])


@pytest.mark.parametrize("index", [-1, 3])
def test_members_that_are_not_there_are_refused(victim: Victim, index: int) -> None:
    for one in (victim.member, victim.folded_member):
        with pytest.raises(InputError, match=f"member: expected 0 to 2, found {index}"):
            one(index)


def test_the_folded_copy_is_made_once_and_answers_alike(victim: Victim, validation: ImageSet) -> None:
    images = torch.from_numpy(validation.images)
    assert victim.folded is victim.folded
    assert not any(isinstance(module, nn.BatchNorm2d) for module in victim.folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in victim.ensemble.modules())
    torch.testing.assert_close(victim.folded(images), victim.ensemble(images), rtol=1e-4, atol=1e-4)


def test_a_device_that_is_not_there_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="device: expected auto, cpu, cuda or cuda:N"):
        Victim.open(run, device="tpu")
