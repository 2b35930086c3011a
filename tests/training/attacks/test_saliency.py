"""What the saliency map attacks share, and the search for the best pair against all pairs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.attacks.models import answered, linear, some_images
from training.attacks import EAD, JSMA, AsInPaper, Attack, CarliniWagner, JSMAPairs, Untargeted
from training.attacks.jsma_pairs import best_pairs


def by_all_pairs(gains: Tensor, drops: Tensor, domain: Tensor) -> tuple[list[int], bool]:
    """One image: the first of the best of D^2 / 2 pairs."""
    best, chosen = -1.0, [0, 0]
    for p in range(len(gains)):
        for q in range(p + 1, len(gains)):
            gain, drop = (gains[p] + gains[q]).item(), (drops[p] + drops[q]).item()
            if domain[p] and domain[q] and gain > 0 and drop > 0 and gain * drop > best:
                best, chosen = gain * drop, [p, q]
    return chosen, best >= 0


@pytest.mark.parametrize("correlation", [1.0, 0.0, -0.9, -1.0])
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "many-ties"])
def test_the_best_pair_is_the_best_of_all_pairs(correlation: float, ties: bool) -> None:
    rng = np.random.default_rng(5)
    gains = rng.normal(size=(20, 24)) + 0.3
    drops = correlation * gains + np.sqrt(1 - correlation**2) * rng.normal(size=gains.shape) + 0.1
    # Eighths, whose sums and products float32 holds exactly, so that a tie is a tie for both.
    ups, downs = (torch.from_numpy(np.round(8 * each) / 8 if ties else each).float() for each in (gains, drops))
    domain = torch.from_numpy(rng.random(gains.shape) < 0.8)
    pairs, possible = best_pairs(ups, downs, domain)
    for row in range(len(domain)):
        expected, there = by_all_pairs(ups[row], downs[row], domain[row])
        assert possible[row] == there
        if there:
            assert pairs[row].tolist() == expected
    assert possible.any()


@pytest.mark.parametrize("left", [0, 1])
def test_there_is_no_pair_without_two_values(left: int) -> None:
    domain = torch.zeros(1, 5, dtype=torch.bool)
    domain[:, :left] = True
    assert not best_pairs(torch.ones(1, 5), torch.ones(1, 5), domain)[1].any()


@pytest.mark.parametrize("attack", [JSMA(theta=0.2, gamma=1.0), JSMAPairs(gamma=1.0)], ids=lambda attack: attack.method)
def test_images_that_are_done_leave_the_batch(attack: Attack) -> None:
    ensemble, images, labels = answered(24)
    seen: list[int] = []
    ensemble.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    attack.perturb(ensemble, images, Untargeted(labels), np.arange(24))
    assert seen[0] == 24
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < 12


def test_what_stalls_is_given_up_at_once() -> None:
    """All values are 0, so that the paper's form picks one that cannot be lowered."""
    ensemble, _, _ = answered(1)
    images = torch.zeros(3, 1, 4, 4)
    with torch.no_grad():
        labels = ensemble(images).softmax(dim=2).mean(dim=1).argmax(dim=1)
    seen: list[int] = []
    ensemble.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    found = JSMA(theta=0.2, gamma=1.0).perturb(ensemble, images, AsInPaper(labels), np.arange(3))
    assert seen == [3]
    assert torch.equal(found, images)


@pytest.mark.parametrize(
    "attack",
    [
        JSMA(theta=0.2, gamma=0.5),
        JSMAPairs(gamma=0.5),
        CarliniWagner(c=1.0, binary_search_steps=3, steps=20),
        EAD(c=1.0, steps=20),
    ],
    ids=lambda attack: attack.method,
)
def test_progress_is_told_from_none_to_all(attack: Attack) -> None:
    images, labels = some_images()
    told: list[float] = []
    attack.perturb(linear(), images, Untargeted(labels), np.arange(len(images)), progress=told.append)
    assert len(told) > 2
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1


@pytest.mark.parametrize("attack", [JSMA(theta=0.2, gamma=0.5), EAD(c=1.0, steps=20)], ids=lambda attack: attack.method)
def test_the_choice_of_kernels_is_left_as_it_was(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    images, labels = some_images()
    attack.perturb(linear(), images, Untargeted(labels), np.arange(len(images)))
    assert torch.backends.cudnn.benchmark
