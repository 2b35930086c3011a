"""What a client repeats, and what it does not, counted at a real server."""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import (
    DeadlineExceeded,
    InputError,
    LedgateError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.calls import REQUEST_ID
from serving.calls import Calls as AroundCalls
from serving.retry import Budget, Retry
from serving.status import DETAILS
from tests.serving.callers import Caller, Connect
from tests.serving.conftest import PATIENCE_S, GatedDetector, Submissions, picture, request
from tests.serving.counted import CLASSIFY, GET_MODEL, counted, unused_port

QUICK = Retry(attempts=1000, initial_s=0.01, max_s=0.05, budget=None)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> "SimpleQueue[bool]":
    """What comes of every failed try of any client: whether it may be repeated."""
    found: SimpleQueue[bool] = SimpleQueue()
    failed = Budget.failed

    def noted(budget: Budget) -> bool:
        may = failed(budget)
        found.put(may)
        return may

    monkeypatch.setattr(Budget, "failed", noted)
    return found


def test_a_server_that_listens_late_is_found(connect: Connect, tiny: Detector, failures: "SimpleQueue[bool]") -> None:
    port = unused_port()
    call = connect(f"127.0.0.1:{port}", retry=QUICK).start("classify", picture(1))
    failures.get(timeout=PATIENCE_S)
    with counted(tiny, port=port):
        assert call.result(PATIENCE_S).labels.tolist() == tiny.classify(picture(1)[None]).labels.tolist()


def test_a_server_that_is_ready_late_is_asked_again(connect: Connect, tiny: Detector) -> None:
    with counted() as (server, calls):
        call = connect(server.address, retry=QUICK).start("classify", picture(1))
        calls.wait(GET_MODEL, 3, PATIENCE_S)
        server.open([tiny])
        assert len(call.result(PATIENCE_S)) == 1
        assert calls.count(CLASSIFY) == 1


class Dropping(grpc.ServerInterceptor):
    """Drops the first calls, as gRPC does with those that a server has not looked at when it ends."""

    def __init__(self, count: int) -> None:
        self._left = count

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        if self._left == 0:
            return continuation(handler_call_details)
        self._left -= 1
        return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(grpc.StatusCode.CANCELLED, ""))


def test_a_call_that_a_server_drops_is_repeated(connect: Connect, tiny: Detector) -> None:
    with counted(tiny, inside=[Dropping(2)]) as (server, calls):
        client = connect(server.address, retry=QUICK)
        assert client.model().name == "tiny"
        assert calls.count(GET_MODEL) == 3


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_a_call_is_tried_so_many_times_and_no_more(connect: Connect, attempts: int) -> None:
    with counted() as (server, calls):
        client = connect(server.address, retry=Retry(attempts=attempts, initial_s=0.01, max_s=0.01))
        text = "^the server is starting; try again soon" + ("$" if attempts == 1 else rf" \(tried {attempts} times\)$")
        with pytest.raises(Unavailable, match=text):
            client.model()
        assert calls.count(GET_MODEL) == attempts


def test_the_budget_is_for_all_calls_of_a_client_together(connect: Connect) -> None:
    retry = Retry(attempts=1000, initial_s=0.001, max_s=0.001, budget=10, refill=0.0)
    with counted() as (server, calls):
        client = connect(server.address, retry=retry)
        found = []
        for _ in range(3):
            before = calls.count(GET_MODEL)
            with pytest.raises(Unavailable):
                client.model()
            found.append(calls.count(GET_MODEL) - before)
    assert found == [5, 1, 1]  # repeated while more than half of ten tokens are left


def test_answers_give_the_budget_back(connect: Connect, tiny: Detector, failures: "SimpleQueue[bool]") -> None:
    spent_at_the_fifth = [True] * 4 + [False]
    with counted() as (server, _):
        client = connect(
            server.address, retry=Retry(attempts=1000, initial_s=0.001, max_s=0.001, budget=10, refill=1.0)
        )
        with pytest.raises(Unavailable):
            client.model()
        assert [failures.get(timeout=PATIENCE_S) for _ in range(5)] == spent_at_the_fifth
        server.open([tiny])
        for _ in range(5):
            client.model()
    with pytest.raises(Unavailable):
        client.model()
    assert [failures.get(timeout=PATIENCE_S) for _ in range(5)] == spent_at_the_fifth


@pytest.mark.parametrize(
    ("call", "error", "tries"),
    [
        (lambda c: c.classify(picture(1)[:, :4]), InputError, 1),
        (lambda c: c.classify([b"junk"]), InputError, 1),
        (lambda c: c.classify(picture(1), members=True), PermissionDenied, 1),
        (lambda c: c.classify(picture(1), model="nope"), NotFound, 0),
        # Cut for a server that took larger messages.
        (lambda c: c.classify(np.zeros((20, 1, 8, 8), np.float32)), ResourceExhausted, 1),
    ],
    ids=["shape", "junk", "members", "model", "message over the limit"],
)
def test_what_is_refused_for_good_is_not_repeated(
    connect: Connect, tiny: Detector, call: Callable[[Caller], object], error: type[LedgateError], tries: int
) -> None:
    port = unused_port()
    client = connect(f"127.0.0.1:{port}", retry=QUICK)
    with counted(tiny, port=port):
        client.classify(picture(1))
    with counted(tiny, port=port, max_message_bytes=4096) as (_, calls):
        client.wait_ready(PATIENCE_S)
        asked = calls.count(CLASSIFY)
        with pytest.raises(error) as caught:
            call(client)
        assert type(caught.value) is error
        assert "tried" not in str(caught.value)
        assert calls.count(CLASSIFY) - asked == tries


def test_other_limits_of_a_server_are_learnt_after_one_refusal(connect: Connect, tiny: Detector) -> None:
    images = np.stack([picture(number) for number in range(20)])
    port = unused_port()
    client = connect(f"127.0.0.1:{port}", retry=QUICK)
    changes: list[dict[str, Any]] = [{}, {"max_message_bytes": 4096}, {"max_images": 7}]
    for limits in changes:
        with counted(tiny, port=port, **limits):
            client.wait_ready(PATIENCE_S)
            if limits:
                with pytest.raises((InputError, ResourceExhausted)):
                    client.classify(images)
            assert len(client.classify(images)) == 20


def test_a_deadline_is_not_repeated(connect: Connect, gated: GatedDetector) -> None:
    with counted(gated) as (server, calls):
        client = connect(server.address, retry=QUICK)
        client.model()
        with pytest.raises(DeadlineExceeded) as caught:
            client.classify(picture(1), timeout_s=0.3)
        assert "tried" not in str(caught.value)
        assert calls.count(CLASSIFY) == 1
        gated.release()


def test_nothing_is_tried_after_the_deadline(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retry, "pause_s", lambda _, number: 3600.0)
    with counted() as (server, calls):
        with pytest.raises(Unavailable, match="the server is starting"):  # at once, and with the last reason
            connect(server.address).model(timeout_s=60.0)
        assert calls.count(GET_MODEL) == 1


def test_a_full_queue_is_waited_for(
    connect: Connect, gated: GatedDetector, submissions: Submissions, failures: "SimpleQueue[bool]"
) -> None:
    with counted(gated, max_queue=1) as (server, calls):
        client = connect(server.address, retry=QUICK)
        running = client.start("classify", picture(1))
        gated.wait_for_run()
        waiting = client.start("classify", picture(2))
        submissions.wait(2)
        refused = client.start("classify", picture(3))
        for _ in range(3):
            failures.get(timeout=PATIENCE_S)
        gated.release()
        for call in (running, waiting, refused):
            assert len(call.result(PATIENCE_S)) == 1
        assert calls.count(CLASSIFY) >= 5


def told(call: Any, name: str) -> list[Any]:
    """What the end of a call says under a name."""
    return [value for key, value in call.trailing_metadata() if key == name]


def test_a_full_queue_says_so_for_machines_beside_what_else_is_said(
    gated: GatedDetector, submissions: Submissions
) -> None:
    naming = AroundCalls([lambda _: None], naming=True)
    with counted(gated, max_queue=1, inside=[naming]) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        waiting = [stub.Classify.future(request(0))]
        gated.wait_for_run()
        waiting.append(stub.Classify.future(request(1)))
        submissions.wait(2)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request(2))
        assert len(told(caught.value, DETAILS)) == 1
        assert len(told(caught.value, REQUEST_ID)) == 1
        gated.release()
        for call in waiting:
            call.result()


def test_a_message_over_the_limit_says_nothing_for_machines(tiny: Detector) -> None:
    with counted(tiny, max_message_bytes=1000) as (server, _), grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request(*range(20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told(caught.value, DETAILS) == []
