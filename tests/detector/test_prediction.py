"""The mean prediction against scipy, and the one place where logits and labels are checked."""

import numpy as np
import pytest
from scipy.special import softmax

from detector.errors import InputError
from detector.prediction import check_labels, check_logits, check_member_count, mean_prediction, member_probabilities


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mean_of_the_members_softmax(dtype: type) -> None:
    logits: np.ndarray = (np.random.default_rng(0).normal(size=(20, 3, 10)) * 30).astype(dtype)
    expected = softmax(logits.astype(np.float64), axis=2)
    np.testing.assert_allclose(member_probabilities(logits), expected, rtol=1e-12)
    found = mean_prediction(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected.mean(axis=1), rtol=1e-12)


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[[1e30, 0.0, -1e30], [-1e30, 0.0, 1e30]]])
    np.testing.assert_array_equal(mean_prediction(logits), [[0.5, 0.0, 0.5]])


def test_a_tie_goes_to_the_lowest_index() -> None:
    logits = np.array([[[1.0, 3.0, 0.0, 3.0], [1.0, 3.0, 0.0, 3.0]]])
    assert mean_prediction(logits).argmax(axis=1) == [1]


def test_the_mean_is_of_probabilities_not_of_logits() -> None:
    """However certain one member is, it has one vote."""
    logits = np.array([[[50.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]])
    assert logits.mean(axis=1).argmax() == 0
    assert mean_prediction(logits).argmax() == 1


@pytest.mark.parametrize(("members", "classes"), [(2, 3), (9, 10), (3, 10)])
def test_counts_with_log_diversity(members: int, classes: int) -> None:
    check_member_count(members, classes)
    check_logits(np.zeros((1, members, classes)))


@pytest.mark.parametrize(("members", "classes"), [(1, 10), (0, 10), (10, 10), (2, 2), (3, 3)])
def test_counts_without(members: int, classes: int) -> None:
    with pytest.raises(InputError, match="members: expected at"):
        check_member_count(members, classes)


def test_labels() -> None:
    np.testing.assert_array_equal(check_labels(np.array([0, 9], dtype=np.uint8), 2, 10), [0, 9])
    with pytest.raises(InputError, match="labels: expected 0 to 9, found 10 at image 1"):
        check_labels([0, 10], 2, 10)
    with pytest.raises(InputError, match=r"labels: expected shape \(2,\), found \(1,\)"):
        check_labels([0], 2, 10)
    with pytest.raises(InputError, match="labels: expected integers, found bool"):
        check_labels([True, False], 2, 10)
