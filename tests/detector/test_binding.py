"""Bound runs: the same logits, to the bit, as plain ones, whatever ran before, and whoever calls."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from detector.binding import MOST, Bound
from detector.device import CPU, Device
from detector.ensemble import Ensemble
from detector.errors import DeviceError
from detector.tuning import Tuning
from tests.conftest import CLASSES, at_once, make_images, make_members

HERE = Device(provider=CPU)
SIZES = [1, 2, 3, 4, 5, 31, 32, 33, 70]


def session(seed: int = 0) -> Any:
    return onnxruntime.InferenceSession(make_members(seed + 1)[seed], providers=[CPU])


def plain(one: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(one.run(None, {one.get_inputs()[0].name: images})[0])


@pytest.mark.parametrize("count", SIZES)
def test_the_first_run_of_a_size_is_not_stale(count: int) -> None:
    one = session()
    bound = Bound(one, HERE, graphs=False)
    images = make_images(count, seed=count)
    np.testing.assert_array_equal(bound(images), plain(one, images))


def test_what_ran_before_leaves_nothing_behind() -> None:
    """A row of a larger batch, or of one with NaN, shares a buffer with what fills a smaller one up."""
    one = session()
    bound = Bound(one, HERE, graphs=False)
    bound(np.full((MOST, *make_images(1).shape[1:]), np.nan, np.float32))
    for count in (*reversed(SIZES), *SIZES):
        images = make_images(count, seed=count)
        np.testing.assert_array_equal(bound(images), plain(one, images))


def test_an_answer_stays_as_it_is_when_the_next_one_is_written() -> None:
    bound = Bound(session(), HERE, graphs=False)
    first = bound(make_images(3))
    kept = first.copy()
    bound(make_images(3, seed=1))
    np.testing.assert_array_equal(first, kept)


def test_callers_at_once_have_their_own_logits() -> None:
    one = session()
    bound = Bound(one, HERE, graphs=False)
    inputs = [make_images(count, seed=count) for count in (1, 3, 4, 32, 40)]
    for images, answers in zip(inputs, at_once(bound, inputs, 50), strict=True):
        expected = plain(one, images)
        assert all((answer == expected).all() for answer in answers)


class Recorded:
    """A session that notes under which number each run is recorded."""

    def __init__(self) -> None:
        self.inner = session()
        self.graphs: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def note(self, options: Any, images: int) -> None:
        self.graphs.append((options.get_run_config_entry("gpu_graph_id"), images))
        self.threads.add(threading.get_ident())

    def run(self, wanted: Any, given: Any, options: Any = None) -> Any:
        (images,) = given.values()
        self.note(options, len(images))
        return self.inner.run(wanted, given)

    def run_with_iobinding(self, binding: Any, options: Any = None) -> None:
        self.note(options, 0)
        self.inner.run_with_iobinding(binding)


def test_each_size_is_recorded_when_opened_and_no_larger_batch_ever() -> None:
    recorded = Recorded()
    bound = Bound(recorded, HERE, graphs=True)
    bound_runs = [(str(size), 0) for size in (1, 2, 4, 8, 16, 32)]
    assert recorded.graphs == [("-1", 1), *bound_runs]  # the first tells how many classes there are
    recorded.graphs.clear()
    for count in (1, 3, 17, 33):
        assert bound(make_images(count)).shape == (count, CLASSES)
    assert recorded.graphs == [("1", 0), ("4", 0), ("32", 0), ("-1", 33)]


def test_all_runs_of_a_session_are_in_one_thread() -> None:
    """Whoever calls: ONNX Runtime would record anew in another."""
    recorded = Recorded()
    bound = Bound(recorded, HERE, graphs=True)
    with ThreadPoolExecutor(4) as callers:
        list(callers.map(bound, [make_images(count) for count in (1, 2, 40, 3)]))
    assert len(recorded.threads) == 1
    assert threading.get_ident() not in recorded.threads


def test_its_thread_ends_with_it() -> None:
    before = set(threading.enumerate())
    bound = Bound(session(), HERE, graphs=False)
    (mine,) = set(threading.enumerate()) - before
    del bound
    mine.join(30)
    assert not mine.is_alive()


def test_graphs_without_a_gpu_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"^cuda_graphs: expected device cuda, found cpu$"):
        Ensemble(make_members(), device="cpu", tuning=Tuning(cuda_graphs=True))
