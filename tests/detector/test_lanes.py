"""Lanes: work in order, on no more threads than there are, and given back whatever happens."""

import concurrent.futures
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from detector.lanes import Lanes

PATIENCE_S = 30.0


def meet(barrier: threading.Barrier, number: int) -> int:
    """A work that only ends when as many works as the barrier asks for run at once."""
    barrier.wait(PATIENCE_S)
    return number


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_answers_are_in_the_order_of_the_works(lanes: int) -> None:
    assert Lanes(3).each([partial(int, number) for number in range(50)], lanes) == list(range(50))


def test_a_single_lane_is_the_callers_own_thread() -> None:
    assert set(Lanes(2).each([threading.get_ident] * 5, 1)) == {threading.get_ident()}


def test_works_run_at_once_on_all_lanes_taken() -> None:
    """The works wait for each other: on fewer threads the barrier would break."""
    barrier = threading.Barrier(3)
    assert Lanes(3).each([partial(meet, barrier, number) for number in range(6)], 3) == list(range(6))


def test_who_comes_while_others_run_has_what_is_left_and_never_waits() -> None:
    lanes = Lanes(3)
    with lanes.taken(2) as first, lanes.taken(3) as second, lanes.taken(3) as third:
        assert (first, second, third) == (2, 1, 1)
    with lanes.taken(3) as again:
        assert again == 3


def test_lanes_are_given_back_after_an_error() -> None:
    lanes = Lanes(2)
    with pytest.raises(KeyError), lanes.taken(2):
        raise KeyError
    with lanes.taken(2) as again:
        assert again == 2


@pytest.mark.parametrize("bad", ["helper", "caller"])
def test_an_error_in_one_lane_is_the_callers_and_ends_the_work(bad: str) -> None:
    """Both lanes have a work at once; the one fails, and the other, which goes on, is waited for."""
    lanes, caller = Lanes(2), threading.get_ident()
    barrier, failed = threading.Barrier(2), threading.Event()
    ended: list[str] = []

    def work() -> None:
        barrier.wait(PATIENCE_S)
        if (threading.get_ident() == caller) == (bad == "caller"):
            failed.set()
            raise ValueError(bad)
        assert failed.wait(PATIENCE_S)
        ended.append("the other")

    works: list[Callable[[], None]] = [work, work]
    with pytest.raises(ValueError, match=f"^{bad}$"):
        lanes.each(works, 2)
    assert ended == ["the other"]
    assert lanes.each([partial(int, 7)] * 3, 2) == [7, 7, 7]


def test_after_an_error_nothing_more_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the other lane either, whose work ends only when the failed one is over."""
    caller, barrier, over = threading.get_ident(), threading.Barrier(2), threading.Event()

    def wait(helping: Any) -> None:
        over.set()
        concurrent.futures.wait(helping)

    monkeypatch.setattr("detector.lanes.wait", wait)
    begun: list[str] = []

    def first() -> None:
        barrier.wait(PATIENCE_S)
        if threading.get_ident() == caller:
            raise ValueError
        assert over.wait(PATIENCE_S)

    works: list[Callable[[], None]] = [first, first, *[partial(begun.append, "third")] * 3]
    with pytest.raises(ValueError, match=r"^$"):
        Lanes(2).each(works, 2)
    assert begun == []


def test_its_threads_end_with_it() -> None:
    lanes = Lanes(2)
    barrier = threading.Barrier(2)
    before = set(threading.enumerate())
    lanes.each([partial(meet, barrier, number) for number in range(2)], 2)
    mine = [thread for thread in threading.enumerate() if thread not in before]
    assert len(mine) == 1
    del lanes
    for thread in mine:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
