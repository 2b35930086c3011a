"""Streams: in order, with bad messages between, read ahead within a window, and gone when the caller is."""

import queue
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.gate import Gate
from tests.serving.conftest import PATIENCE_S, GatedDetector, Served, Submissions, request
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]
BAD = pb.ClassifyRequest(request_id="bad")


class Feed:
    """Messages that a stream sends when the test says so."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[pb.ClassifyRequest | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[pb.ClassifyRequest]:
        while (message := self._messages.get()) is not None:
            yield message

    def send(self, *messages: pb.ClassifyRequest) -> None:
        for message in messages:
            self._messages.put(message)

    def end(self) -> None:
        self._messages.put(None)


def give_time(served: Served) -> None:
    """Some calls of another kind: time enough to read on, for a stream that does."""
    for _ in range(20):
        served.stub.GetModel(pb.GetModelRequest())


def draining(served: Served) -> bool:
    """Whether the server lets nobody in any more."""
    try:
        served.stub.GetModel(pb.GetModelRequest())
    except grpc.RpcError as error:
        return "draining" in str(error)
    return False


@pytest.fixture
def feed() -> Iterator[Feed]:
    found = Feed()
    yield found
    found.end()


def test_answers_come_in_order_around_bad_messages(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny)
    messages = [BAD if number % 3 == 1 else request(number, request_id=f"call {number}") for number in range(100)]
    answers = list(served.stub.ClassifyStream(iter(messages)))
    assert len(answers) == 100
    for number, answer in enumerate(answers):
        if number % 3 == 1:
            assert answer.request_id == "bad"
            assert answer.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
            assert answer.status.message == "input: expected a tensor or encoded images, found neither"
        else:
            assert answer.request_id == answer.response.request_id == f"call {number}"
            assert_own(answer.response, tiny, number)


def test_an_empty_stream_ends(serve: Serve, tiny: Detector) -> None:
    assert list(serve(tiny).stub.ClassifyStream(iter(()))) == []


def test_messages_of_one_stream_share_a_run(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    answers = served.stub.ClassifyStream(iter([request(number) for number in range(8)]))
    submissions.wait(8)
    gated.release()
    for number, answer in enumerate(answers):
        assert_own(answer.response, tiny, number)
    assert sum(len(run) for run in gated.runs) == 8
    assert len(gated.runs) <= 2


def test_an_answer_does_not_wait_for_the_next_message(serve: Serve, tiny: Detector, feed: Feed) -> None:
    answers = serve(tiny).stub.ClassifyStream(iter(feed))
    for number in range(3):
        feed.send(request(number))
        assert_own(next(answers).response, tiny, number)
    feed.end()
    assert list(answers) == []


def test_reading_stops_when_the_window_is_full(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, stream_window=4)
    answers = served.stub.ClassifyStream(iter([request(number) for number in range(40)]))
    submissions.wait(4)
    give_time(served)
    assert submissions.total == 4
    gated.release()
    assert len(list(answers)) == 40
    assert max(len(run) for run in gated.runs) <= 4
    assert [number for run in gated.runs for number in run] == list(range(40))


def test_refusals_fill_the_window_too(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, stream_window=4)
    answers = served.stub.ClassifyStream(iter([request(0), BAD, BAD, BAD, request(1), request(2)]))
    submissions.wait(1)
    give_time(served)
    assert submissions.total == 1
    gated.release()
    kinds = [answer.WhichOneof("outcome") for answer in answers]
    assert kinds == ["response", "status", "status", "status", "response", "response"]


def test_where_the_queue_is_full_the_stream_is_held_up(
    serve: Serve, gated: GatedDetector, tiny: Detector, twins: Detector, submissions: Submissions
) -> None:
    served = serve(gated, twins, max_queue=1)
    stuck = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    messages = [request(1), request(2), request(3), request(4, model="twins")]
    answers = served.stub.ClassifyStream(iter(messages))
    submissions.wait(2)  # the call and the first message; the second finds no room
    give_time(served)
    assert submissions.total == 2
    with pytest.raises(grpc.RpcError, match="queue: expected room for 1 images"):
        served.stub.Classify(request(5))
    gated.release()
    assert_own(stuck.result(), tiny, 0)
    *own, last = list(answers)
    for number, answer in enumerate(own, 1):
        assert_own(answer.response, tiny, number)
    assert_own(last.response, twins, 4)


def test_a_stream_that_waits_for_room_ends_when_the_server_stops(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated, max_queue=1)
    stuck = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    answers = served.stub.ClassifyStream(iter([request(1), request(2)]))
    submissions.wait(2)
    give_time(served)
    stopping = threading.Thread(target=served.server.stop)
    stopping.start()
    while not draining(served):
        pass
    gated.release()
    assert_own(stuck.result(), tiny, 0)
    assert_own(next(answers).response, tiny, 1)
    with pytest.raises(grpc.RpcError, match="draining") as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    stopping.join(PATIENCE_S)


def test_streams_leave_the_last_quarter_of_the_queue_to_calls(
    serve: Serve, gated: GatedDetector, submissions: Submissions
) -> None:
    served = serve(gated, max_queue=8, max_batch=100)
    stuck = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    answers = served.stub.ClassifyStream(iter([request(number) for number in range(1, 12)]))
    submissions.wait(7)
    give_time(served)
    assert submissions.total == 7
    calls = [served.stub.Classify.future(request(number)) for number in (20, 21)]
    submissions.wait(2)
    gated.release()
    assert len(list(answers)) == 11
    assert len([call.result() for call in (stuck, *calls)]) == 3


def test_large_messages_are_read_one_ahead(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    """The one whose turn it is, and as many more as make two batches."""
    served = serve(gated, max_batch=4)
    answers = served.stub.ClassifyStream(iter([request(*range(8)) for _ in range(6)]))
    submissions.wait(2)
    give_time(served)
    assert submissions.total == 2
    gated.release()
    assert [len(answer.response.results) for answer in answers] == [8] * 6


def test_a_caller_that_goes_away_releases_everything(
    serve: Serve, gated: GatedDetector, submissions: Submissions, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: queue.SimpleQueue[None] = queue.SimpleQueue()
    leave = Gate.leave

    def noted(gate: Gate, *arguments: object) -> None:
        leave(gate, *arguments)  # type: ignore[arg-type]
        left.put(None)

    monkeypatch.setattr(Gate, "leave", noted)
    served = serve(gated, max_streams=1)
    answers = served.stub.ClassifyStream(iter(feed))
    # The first is being run before the others come, so that it is known which can be given up.
    feed.send(request(0))
    gated.wait_for_run()
    feed.send(*[request(number) for number in range(1, 5)])
    submissions.wait(5)
    answers.cancel()
    submissions.wait_cancelled(5)
    left.get(timeout=PATIENCE_S)
    gated.release()
    # The one stream that there may be is free again, and nothing that was given up is run.
    (answer,) = served.stub.ClassifyStream(iter([request(9)]))
    assert answer.WhichOneof("outcome") == "response"
    assert gated.runs[-1] == [9]
    assert sum(len(run) for run in gated.runs[:-1]) < 5


def test_only_so_many_streams_are_open_at_a_time(serve: Serve, tiny: Detector, feed: Feed) -> None:
    served = serve(tiny, max_streams=1)
    first = served.stub.ClassifyStream(iter(feed))
    feed.send(request(1))
    next(first)
    with pytest.raises(grpc.RpcError, match="streams: expected at most 1 open at a time") as caught:
        list(served.stub.ClassifyStream(iter([request(2)])))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(served.stub.Classify(request(3)).results) == 1


def test_a_deadline_ends_the_stream(serve: Serve, gated: GatedDetector, submissions: Submissions, feed: Feed) -> None:
    answers = serve(gated).stub.ClassifyStream(iter(feed), timeout=0.5)
    feed.send(request(0), request(1))
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    submissions.wait_cancelled(2)
