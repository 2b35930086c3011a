"""A run that is asked, and what attacks with and without gradients have in common."""

import hashlib

import numpy as np
import pytest
import torch

from detector import goal
from detector.attacked import attack
from detector.ball import ball
from detector.errors import InputError, RunError
from detector.imageset import ImageSet, as_floats
from detector.prediction import mean_prediction
from detector.square import Square
from training import PGD, Run, sample
from training.attacked import attack as attack_by_gradient
from training.attacks import linf
from training.attacks.loss import ensemble_loss, margin
from training.oracle import asking, known_as
from training.run import CHECKPOINT

LOGITS = np.random.default_rng(0).normal(size=(20, 3, 10)) * 5
LABELS = np.arange(20) % 10


def test_a_run_answers_with_its_averaged_prediction(run: Run, validation: ImageSet) -> None:
    ensemble, _ = run.trained()
    images = as_floats(validation.images)
    with torch.inference_mode():
        expected = mean_prediction(ensemble(torch.from_numpy(images)).numpy())
    with asking(run, budget=500) as oracle:
        np.testing.assert_allclose(oracle(images), expected, atol=1e-6)
        assert (oracle.shape, oracle.classes, oracle.budget) == ((1, 8, 8), 10, 500)
        assert oracle.known_as == known_as(run)


def test_a_run_is_known_by_its_checkpoint(run: Run) -> None:
    assert known_as(run) == {"run": hashlib.sha256((run.path / CHECKPOINT).read_bytes()).hexdigest()}


def test_torch_is_left_as_it_was(run: Run) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with asking(run):
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == before


def test_what_cannot_be_asked_is_refused(run: Run) -> None:
    with pytest.raises(RunError, match="nowhere"), asking("nowhere"):
        pass
    with pytest.raises(InputError, match="device: expected auto, cpu, cuda or cuda:N"), asking(run, device="tpu"):
        pass


def test_square_comes_near_to_what_gradients_find(run: Run, validation: ImageSet) -> None:
    images = sample(validation, 40)
    by_gradient = attack_by_gradient(run, images, PGD(eps=0.1, steps=40, step_size=0.01), progress=False)
    with asking(run) as oracle:
        by_query = attack(oracle, images, Square(eps=0.1, queries=500), progress=False)
    found, reference = (int(np.asarray(result.success).sum()) for result in (by_query, by_gradient))
    assert reference > 5
    assert 0.8 * reference <= found <= reference
    assert by_query.info["attack"]["found"]["clean_correct"] == by_gradient.info["attack"]["found"]["clean_correct"]


@pytest.mark.parametrize("eps", [1e-8, 0.03, 1 / 3, 1.0])
def test_the_ball_is_that_of_the_gradient_attacks(eps: float) -> None:
    images = np.clip(np.random.default_rng(0).uniform(-0.2, 1.2, (50, 1, 8, 8)), 0, 1).astype(np.float32)
    for ours, theirs in zip(ball(images, eps), linf.ball(torch.from_numpy(images), eps), strict=True):
        assert np.array_equal(ours, theirs.numpy())


def test_the_losses_are_those_of_the_gradient_attacks() -> None:
    predictions, labels = mean_prediction(LOGITS), torch.from_numpy(LABELS)
    np.testing.assert_allclose(
        goal.Untargeted(LABELS).loss(predictions), margin(torch.from_numpy(LOGITS), labels).numpy(), rtol=1e-9
    )
    np.testing.assert_allclose(
        goal.Targeted(LABELS).loss(predictions), ensemble_loss(torch.from_numpy(LOGITS), labels).numpy(), rtol=1e-9
    )
