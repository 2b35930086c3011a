"""Calls and streams over real gRPC: how each ended, counted once, and what a stall looks like from both loops."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import grpc
import pytest

from detector.errors import InputError, NotFound
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.bench.answers import MALFORMED, Answers, decode_reply, decode_stream_reply
from serving.bench.load import ClosedLoop, Load, OpenLoop, Plan
from serving.bench.loop import Run
from serving.bench.outcome import Outcome
from serving.bench.route import Route
from serving.bench.streams import Streams
from serving.bench.unary import Unary
from tests.serving.bench.conftest import CLASSES, PATIENCE_S, Script, Scripted, good, images_of, pool, reply

Start = Callable[[Script], Scripted]
CODES = [None, grpc.StatusCode.UNAVAILABLE, None, grpc.StatusCode.RESOURCE_EXHAUSTED]


def some_codes(number: int, request: pb.ClassifyRequest) -> Any:
    """Two answers and two errors, in turn."""
    return CODES[number % 4] or reply(images_of(request))


def measured(server: Scripted, load: Load, plan: Plan, **options: Any) -> Outcome:
    """One run, over `streams` or in single calls."""
    streams, check, deadline_s = (options.get(name) for name in ("streams", "check", "deadline_s"))
    with closing(Route(address=server.address).open()) as channel:
        if streams is None:
            sender: Any = Unary(channel, metadata=[("tag", "x")], deadline_s=deadline_s or PATIENCE_S)
        else:
            sender = Streams(channel, count=streams, metadata=[])
        decode = decode_reply if streams is None else decode_stream_reply
        answers = Answers(decode, classes=CLASSES, check=bool(check))
        return Run(sender, pool(*options.get("sizes", (1,))), answers, plan, patience_s=PATIENCE_S).measure(load)


ONE = ClosedLoop(callers=1)
TRANSPORTS = pytest.mark.parametrize("streams", [None, 1, 3], ids=["unary", "one stream", "three streams"])


@TRANSPORTS
def test_errors_are_counted_by_code(scripted: Start, streams: int | None) -> None:
    outcome = measured(scripted(some_codes), ONE, Plan(warm_up_s=0.0, calls=40), streams=streams)
    assert outcome.answered == 20
    assert outcome.errors == {"RESOURCE_EXHAUSTED": 10, "UNAVAILABLE": 10}
    assert outcome.details["UNAVAILABLE"] == "scripted UNAVAILABLE"


@TRANSPORTS
def test_nothing_is_tried_twice(scripted: Start, streams: int | None) -> None:
    server = scripted(lambda *_: grpc.StatusCode.UNAVAILABLE)
    outcome = measured(server, ClosedLoop(callers=4), Plan(warm_up_s=0.0, calls=30), streams=streams)
    assert outcome.errors == {"UNAVAILABLE": 30}
    assert len(server.requests) == 30


@TRANSPORTS
def test_answers_belong_to_their_requests(scripted: Start, streams: int | None) -> None:
    """A check compares the number of results with that of the request's images."""
    plan = Plan(warm_up_s=0.0, calls=200)
    outcome = measured(scripted(good), ClosedLoop(callers=8), plan, streams=streams, sizes=(1, 2, 5), check=True)
    assert (outcome.answered, outcome.errors) == (200, {})
    assert set(outcome.latencies) == {1, 2, 5}


@TRANSPORTS
def test_flags_of_all_answers_are_counted(scripted: Start, streams: int | None) -> None:
    server = scripted(lambda number, request: reply(images_of(request), flagged=number % 2))
    outcome = measured(server, ONE, Plan(warm_up_s=0.0, calls=20), streams=streams, sizes=(4,))
    assert (outcome.judged, outcome.flagged, outcome.flagged_share) == (80, 10, 1 / 8)


@TRANSPORTS
def test_an_answer_that_is_not_well_formed_is_an_error_of_a_check(scripted: Start, streams: int | None) -> None:
    server = scripted(lambda number, request: reply(images_of(request) + (number == 3)))
    plan = Plan(warm_up_s=0.0, calls=10)
    assert measured(server, ONE, plan, streams=streams, check=True).errors == {MALFORMED: 1}


def test_a_stream_that_breaks_is_opened_again(scripted: Start) -> None:
    server = scripted(lambda number, request: grpc.StatusCode.ABORTED if number == 5 else good(number, request))
    outcome = measured(server, ONE, Plan(warm_up_s=0.0, calls=20), streams=1)
    assert (outcome.answered, outcome.errors) == (19, {"ABORTED": 1})


def test_a_deadline_is_that_of_each_call(scripted: Start) -> None:
    over = threading.Event()

    def never(number: int, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        over.wait(PATIENCE_S)
        return good(number, request)

    try:
        outcome = measured(scripted(never), ONE, Plan(warm_up_s=0.0, calls=3), deadline_s=0.1)
    finally:
        over.set()
    assert outcome.errors == {"DEADLINE_EXCEEDED": 3}


def test_metadata_is_sent_with_each_call(scripted: Start) -> None:
    server = scripted(good)
    measured(server, ONE, Plan(warm_up_s=0.0, calls=5))
    assert [metadata["tag"] for metadata in server.metadata] == ["x"] * 5


def test_cpu_time_is_that_of_this_process(scripted: Start) -> None:
    """With the server in the same process, less than all of what passed, and more than nothing."""
    before_s = time.process_time()
    outcome = measured(scripted(good), ONE, Plan(warm_up_s=0.0, calls=100))
    assert 0 < outcome.cpu_s < time.process_time() - before_s


STALL_S, DURATION_S, RATE = 1.0, 3.0, 100.0


def stalling() -> Script:
    """From half a second after the first call on, nothing is answered for a second."""
    begun_s: list[float] = []

    def script(number: int, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        begun_s.append(time.monotonic())
        into_s = time.monotonic() - begun_s[0] - 0.5
        if 0 <= into_s < STALL_S:
            threading.Event().wait(STALL_S - into_s)
        return good(number, request)

    return script


def test_a_stall_shows_in_an_open_loop_as_long_as_it_was(scripted: Start) -> None:
    """At the percentile p a call waits S - (1 - p) D: see test_loop.py, where time is exact."""
    outcome = measured(scripted(stalling()), OpenLoop(rate=RATE), Plan(warm_up_s=0.0, duration_s=DURATION_S))
    assert outcome.latency.percentile_s(90) == pytest.approx(STALL_S - 0.1 * DURATION_S, abs=0.25)


def test_a_stall_hides_in_a_closed_loop(scripted: Start) -> None:
    outcome = measured(scripted(stalling()), ONE, Plan(warm_up_s=0.0, duration_s=DURATION_S))
    p90_s = outcome.latency.percentile_s(90)
    assert p90_s is not None
    assert p90_s < 0.2
    assert outcome.latency.max_s > 0.8 * STALL_S


def test_a_model_that_is_not_there_is_said_with_the_address(scripted: Start) -> None:
    server = scripted(lambda *_: grpc.StatusCode.NOT_FOUND)
    route = Route(address=server.address)
    with closing(route.open()) as channel, pytest.raises(NotFound, match=f"{server.address}: scripted NOT_FOUND"):
        route.model(channel, "no", timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "nowhere"}, "address: expected HOST:PORT, found 'nowhere'"),
        ({"address": "example.org:1", "token": "a" * 16}, "token: expected TLS on the way to example.org:1"),
    ],
    ids=["address", "token in plaintext"],
)
def test_a_route_that_is_none_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Route(**options)
