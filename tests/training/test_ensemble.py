"""The ensemble of members, and what each holds beside its network."""

import pytest
import torch

from detector.errors import InputError
from training.ensemble import Ensemble, Member, build_ensemble


def some_ensemble(seed: int = 0, *, members: int = 3) -> Ensemble:
    return build_ensemble(
        "cnn",
        members=members,
        image_shape=(1, 8, 8),
        classes=10,
        mean=torch.tensor([[[0.3]]]),
        std=torch.tensor([[[0.4]]]),
        seed=seed,
    )


def test_more_members_than_classes_allow_are_refused() -> None:
    with pytest.raises(InputError, match="members: expected at most 9 for 10 classes, found 10"):
        some_ensemble(members=10)


def test_logits_are_each_members_own() -> None:
    ensemble = some_ensemble().eval()
    images = torch.rand(4, 1, 8, 8)
    logits = ensemble(images)
    assert logits.shape == (4, 3, 10)
    for k, member in enumerate(ensemble.members):
        assert torch.equal(logits[:, k], member(images))


def test_members_normalise_channel_by_channel() -> None:
    mean, std = torch.tensor([0.25, 0.5])[:, None, None], torch.tensor([0.5, 2.0])[:, None, None]
    member = Member(torch.nn.Identity(), mean, std)
    images = torch.rand(3, 2, 4, 4)
    expected = torch.stack([(images[:, 0] - 0.25) / 0.5, (images[:, 1] - 0.5) / 2.0], dim=1)
    assert torch.equal(member(images), expected)


def test_members_subtract_each_pixels_mean() -> None:
    mean = torch.rand(2, 4, 4)
    images = torch.rand(3, 2, 4, 4)
    assert torch.equal(Member(torch.nn.Identity(), mean, torch.ones(2, 4, 4))(images), images - mean)


def test_weights_follow_from_the_seed_and_the_members_number() -> None:
    first, again, other = some_ensemble(0), some_ensemble(0, members=2), some_ensemble(1)
    weights = [[next(m.parameters()) for m in e.members] for e in (first, again, other)]
    assert torch.equal(weights[0][1], weights[1][1])
    assert not torch.equal(weights[0][0], weights[0][1])
    assert not torch.equal(weights[0][0], weights[2][0])


def test_building_leaves_torchs_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    some_ensemble()
    assert torch.equal(before, torch.random.get_rng_state())


def test_members_keep_their_own_copies() -> None:
    """Buffers that shared memory would overwrite each other when a state is loaded."""
    one = torch.ones(1, 1, 1)
    ensemble = build_ensemble("cnn", members=2, image_shape=(1, 8, 8), classes=10, mean=one, std=one, seed=0)
    trained = some_ensemble(members=2)
    ensemble.load_state_dict(trained.state_dict())
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(ensemble.eval()(images), trained.eval()(images))
