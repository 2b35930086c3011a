"""What an attack by queries brings down, and which class it is to end in."""

import numpy as np
import pytest

from detector.errors import InputError
from detector.goal import Targeted, Towards, Untargeted
from tests.detector.asked import softmax

LOGITS = np.random.default_rng(0).normal(size=(6, 5)) * 4
LABELS = np.array([0, 1, 2, 3, 4, 0])
ROWS = np.arange(6)


def test_of_one_member_the_untargeted_loss_is_the_margin_of_its_logits() -> None:
    others = np.where(np.eye(5, dtype=bool)[LABELS], -np.inf, LOGITS).max(axis=1)
    np.testing.assert_allclose(Untargeted(LABELS).loss(softmax(LOGITS)), LOGITS[ROWS, LABELS] - others, rtol=1e-12)


def test_the_targeted_loss_is_the_cross_entropy() -> None:
    np.testing.assert_allclose(Targeted(LABELS).loss(softmax(LOGITS)), -np.log(softmax(LOGITS)[ROWS, LABELS]))


def test_losses_tell_certain_answers_apart_and_stay_finite() -> None:
    certain = np.array([[1.0, 1e-300], [1.0, 1e-40], [1.0, 5e-324], [1.0, 0.0], [0.0, 1.0]])
    losses = Untargeted(np.zeros(5, int)).loss(certain)
    assert np.isfinite(losses).all()
    assert np.argsort(-losses, kind="stable").tolist() == [2, 3, 0, 1, 4]
    assert losses[2] == losses[3]
    towards = Targeted(np.ones(5, int)).loss(certain)
    assert np.isfinite(towards).all()
    assert towards[0] > towards[1] > towards[4] == 0


def test_predictions_are_left_as_they_are() -> None:
    predictions = softmax(LOGITS)
    before = predictions.copy()
    Untargeted(LABELS).loss(predictions)
    assert np.array_equal(predictions, before)


def test_a_goal_is_reached_by_the_class_alone() -> None:
    classes = np.array([0, 0, 2, 0, 1, 0])
    assert Targeted(LABELS).reached(classes).tolist() == [True, False, True, False, False, True]
    assert Untargeted(LABELS).reached(classes).tolist() == [False, True, False, True, True, False]


def test_some_images_keep_their_labels() -> None:
    chosen = Untargeted(LABELS).only(np.array([4, 1]))
    assert type(chosen) is Untargeted
    assert chosen.labels.tolist() == [4, 1]


def test_next_is_the_label_after_and_a_number_is_itself() -> None:
    assert Towards("next").targets(LABELS, ROWS, 5).tolist() == [1, 2, 3, 4, 0, 1]
    assert Towards(3).targets(LABELS, ROWS, 5).tolist() == [3] * 6


def test_random_targets_are_any_class_but_the_true_one_and_belong_to_the_row() -> None:
    labels, rows = np.repeat(np.arange(5), 200), np.arange(1000)
    targets = Towards("random", seed=1).targets(labels, rows, 5)
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (labels, targets), 1)
    assert (np.diag(counts) == 0).all()
    assert (counts + np.eye(5, dtype=int) * 50 > 30).all()
    assert np.array_equal(Towards("random", seed=1).targets(labels[700:], rows[700:], 5), targets[700:])
    assert not np.array_equal(Towards("random", seed=2).targets(labels, rows, 5), targets)


@pytest.mark.parametrize("choice", ["nearest", -1, 1.5, ""])
def test_another_choice_is_refused(choice: object) -> None:
    with pytest.raises(InputError, match="target: expected random, next or the number of a class, found"):
        Towards(choice)  # type: ignore[arg-type]


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="target: expected 0 to 4, found 5"):
        Towards(5).targets(LABELS, ROWS, 5)
