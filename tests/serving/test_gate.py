"""The gate: who may come in, and when the last has gone."""

import threading

import pytest

from detector.errors import Unavailable
from serving.gate import Gate


def test_nobody_comes_in_before_it_opens() -> None:
    gate = Gate()
    with pytest.raises(Unavailable, match="starting"):
        gate.enter()
    gate.open()
    gate.enter()
    assert gate.inside == 1


def test_nobody_comes_in_once_it_drains() -> None:
    gate = Gate()
    gate.open()
    assert gate.drain(0.0) == 0
    with pytest.raises(Unavailable, match="draining"):
        gate.enter()


def test_draining_counts_those_who_stay() -> None:
    gate = Gate()
    gate.open()
    for _ in range(3):
        gate.enter()
    gate.leave()
    assert gate.drain(0.0) == 2


def test_draining_waits_for_the_last() -> None:
    gate = Gate()
    gate.open()
    gate.enter(leave := threading.Event().set)
    told = threading.Event()
    gate.enter(told.set)

    def last() -> None:
        assert told.wait(30.0)  # told by `drain`, which by then is waiting
        gate.leave(told.set)
        gate.leave(leave)

    thread = threading.Thread(target=last)
    thread.start()
    assert gate.drain(30.0) == 0
    thread.join()


def test_who_has_left_is_not_told_of_draining() -> None:
    gate = Gate()
    gate.open()
    told = threading.Event()
    gate.enter(told.set)
    gate.leave(told.set)
    gate.drain(0.0)
    assert not told.is_set()
