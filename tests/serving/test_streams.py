"""Places of streams, with a clock of the test's own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest

from detector.detector import Detector
from detector.errors import ResourceExhausted
from serving.stream import Stream
from serving.streams import IDLE_S, Streams
from tests.serving.conftest import PATIENCE_S, GatedDetector, Served, Submissions, request
from tests.serving.test_batcher import Clock
from tests.serving.test_stream import Feed

Serve = Callable[..., Served]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(clock: Clock) -> Callable[[], Stream]:
    """Makes streams that have not said anything."""
    accept: Any = None
    return partial(Stream, accept, window=1, ahead=1, clock=clock)


def test_a_place_that_is_left_is_free(clock: Clock, opened: Callable[[], Stream]) -> None:
    streams, first = Streams(1, clock=clock), opened()
    streams.enter(first)
    streams.leave(first)
    streams.enter(opened())
    assert first.refusal is None


def test_nobody_gives_way_who_has_just_come(clock: Clock, opened: Callable[[], Stream]) -> None:
    streams, first = Streams(1, clock=clock), opened()
    streams.enter(first)
    clock.now_s += IDLE_S - 0.1
    with pytest.raises(ResourceExhausted, match="streams: expected at most 1 open at a time, found 1 open"):
        streams.enter(opened())
    assert first.refusal is None


def test_the_one_that_has_been_idle_longest_gives_way(clock: Clock, opened: Callable[[], Stream]) -> None:
    streams, ages = Streams(3, clock=clock), []
    for _ in range(3):
        ages.append(opened())
        streams.enter(ages[-1])
        clock.now_s += 1.0
    clock.now_s += IDLE_S
    streams.enter(opened())
    assert [stream.refusal is not None for stream in ages] == [True, False, False]
    assert str(ages[0].refusal).startswith("stream: expected a message within 10 s while others wait for its place")
    streams.leave(ages[0])
    streams.enter(opened())
    assert [stream.refusal is not None for stream in ages] == [True, True, False]


def test_an_idle_stream_ends_with_why_and_the_one_that_comes_is_answered(
    serve: Serve, tiny: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.streams.IDLE_S", 0.0)
    served, feed = serve(tiny, max_streams=1), Feed()
    first = served.stub.ClassifyStream(iter(feed), timeout=PATIENCE_S)
    feed.send(request(1))
    next(first)
    assert len(list(served.stub.ClassifyStream(iter([request(2)])))) == 1
    with pytest.raises(grpc.RpcError, match="while others wait for its place") as caught:
        next(first)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    feed.end()


def test_a_stream_that_waits_for_an_answer_is_not_idle(
    serve: Serve, gated: GatedDetector, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.streams.IDLE_S", 1e-9)
    served = serve(gated, max_streams=1)
    first = served.stub.ClassifyStream(iter([request(1)]), timeout=PATIENCE_S)
    submissions.wait(1)
    with pytest.raises(grpc.RpcError, match="streams: expected at most 1 open"):
        list(served.stub.ClassifyStream(iter([request(2)])))
    gated.release()
    assert len(list(first)) == 1
