"""AutoAttack, from its library: what we promise around it."""

import numpy as np
import pytest
import torch

from detector.errors import InputError
from detector.imageset import ImageSet
from tests.training.attacks.models import Linear, linear, perturbed, some_images
from training import Run, attack, sample
from training.attacks import PGD, AsInPaper, Targeted
from training.attacks.auto import AutoAttack


def test_it_finds_what_pgd_finds_and_stays_in_the_ball(run: Run, validation: ImageSet) -> None:
    # Few images that none of the four fools: each costs Square's 5,000 queries.
    some = sample(validation, 12, seed=2)
    found = attack(run, some, AutoAttack(eps=0.17), progress=False)
    steps = attack(run, some, PGD(eps=0.17, steps=40, step_size=0.017), progress=False)
    won, by_steps = np.asarray(found.success), np.asarray(steps.success)
    assert 0 < by_steps.sum() <= won.sum() < 12
    change = found.images.astype(np.float64) - np.asarray(found.clean)
    assert np.abs(change).max() <= 0.17
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    # Where it fails, and where nothing is to be done, it returns the input.
    assert np.array_equal(found.images[~won], np.asarray(found.clean)[~won])


@pytest.mark.parametrize("aim", [AsInPaper, Targeted])
def test_other_aims_are_refused(aim: type) -> None:
    images, labels = some_images()
    with pytest.raises(InputError, match="autoattack: expected to leave the true label, found another aim"):
        perturbed(linear(), images, labels, AutoAttack(eps=0.1), aim)


def test_three_classes_are_refused() -> None:
    images, labels = some_images()
    few = Linear(linear().weights[:2, :3])
    with pytest.raises(InputError, match="autoattack: expected at least 4 classes, found 3"):
        perturbed(few, images, labels.clamp(max=2), AutoAttack(eps=0.1))


def test_its_remarks_stay_off_the_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = some_images(2)
    perturbed(linear(), images, labels, AutoAttack(eps=0.001))
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_settings() -> None:
    assert AutoAttack(eps=0.03).name == "autoattack-0.03"
    with pytest.raises(InputError, match="eps: expected a number above 0"):
        AutoAttack(eps=0.0)


def test_torchs_random_state_is_left_alone_by_an_attack_on_a_run(run: Run, validation: ImageSet) -> None:
    before = torch.random.get_rng_state()
    attack(run, sample(validation, 2), AutoAttack(eps=0.9), progress=False)
    assert torch.equal(before, torch.random.get_rng_state())
