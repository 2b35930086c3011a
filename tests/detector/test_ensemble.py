"""The members on several threads: the same logits, to the bit, as each member gives by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from detector.ensemble import Ensemble
from tests.conftest import at_once, make_images, make_members

THREADS = 4


def one_by_one(members: Sequence[bytes], images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The slow twin: every member on every image, alone."""
    sessions = [onnxruntime.InferenceSession(member, providers=["CPUExecutionProvider"]) for member in members]
    rows = [[session.run(None, {session.get_inputs()[0].name: image[None]})[0][0] for session in sessions]
            for image in images]  # fmt: skip
    return np.array(rows)


@pytest.fixture
def divides(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every run is worth dividing; returns the lanes of each, as they are used."""
    monkeypatch.setattr("detector.ensemble._WORTH_S", 0.0)
    used: list[int] = []
    divided = Ensemble._divided

    def noted(self: Ensemble, floats: Any, lanes: int) -> Any:
        used.append(lanes)
        return divided(self, floats, lanes)

    monkeypatch.setattr(Ensemble, "_divided", noted)
    return used


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 33])
def test_divided_or_not_an_image_has_the_same_logits(divides: list[int], count: int) -> None:
    members, images = make_members(), make_images(count)
    logits = Ensemble(members, device="cpu", threads=THREADS).logits(images)
    np.testing.assert_array_equal(logits, one_by_one(members, images))
    assert divides == [len(members)]


def test_one_thread_never_divides(divides: list[int]) -> None:
    Ensemble(make_members(), device="cpu", threads=1).logits(make_images(33))
    assert divides == []


def test_a_run_of_no_time_is_not_divided(monkeypatch: pytest.MonkeyPatch, divides: list[int]) -> None:
    monkeypatch.setattr("detector.ensemble._WORTH_S", 1e9)
    ensemble = Ensemble(make_members(), device="cpu", threads=THREADS)
    ensemble.logits(make_images(4))  # until it has run, it knows no time
    ensemble.logits(make_images(4))
    assert len(divides) == 1


def test_several_callers_at_once_have_their_own_logits(divides: list[int]) -> None:
    members = make_members()
    ensemble = Ensemble(members, device="cpu", threads=THREADS)
    inputs = [make_images(count, seed=count) for count in (1, 5, 8, 12, 20)]
    expected = [one_by_one(members, images) for images in inputs]
    for answers, alone in zip(at_once(ensemble.logits, inputs, 20), expected, strict=True):
        assert all((answer == alone).all() for answer in answers)
    assert len(divides) > 0


def test_a_member_that_fails_harms_no_later_run(divides: list[int]) -> None:
    members = make_members()
    ensemble = Ensemble(members, device="cpu", threads=THREADS)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        ensemble.logits(make_images(8, shape=(1, 3, 3)))
    images = make_images(8)
    np.testing.assert_array_equal(ensemble.logits(images), one_by_one(members, images))
    assert divides == [len(members)] * 2
