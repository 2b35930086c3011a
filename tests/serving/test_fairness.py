"""Callers share a server: whoever has little is not behind whoever has much, however that is asked for.

The runs are counted, not timed: a model that waits until it is let through tells what was in each.
"""

from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import grpc
import pytest

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2_grpc
from serving import calls
from serving.batcher import Batcher
from serving.calls import caller_of
from serving.client import Client
from serving.ticket import Ticket
from tests.serving.conftest import GatedDetector, Served, Submissions, picture, request

Serve = Callable[..., Served]
Bulk = Callable[[Any], Any]


def singles(stub: Any) -> Any:
    """Many calls at once."""
    return [stub.Classify.future(request(number)) for number in range(100, 160)]


def dozens(stub: Any) -> Any:
    """Calls of several images."""
    return [stub.Classify.future(request(*range(number, number + 4))) for number in range(100, 160, 4)]


def large(stub: Any) -> Any:
    """A call larger than a batch."""
    return [stub.Classify.future(request(*range(100, 160)))]


def streams(stub: Any) -> Any:
    """Several streams with messages as large as a batch."""
    return [stub.ClassifyStream(iter([request(*range(100, 104)) for _ in range(10)])) for _ in range(4)]


@pytest.fixture
def stub_of_its_own() -> Iterator[Callable[[str], Any]]:
    """A stub with a connection of its own: channels to one server share one otherwise."""
    channels: list[grpc.Channel] = []

    def connect(address: str) -> Any:
        channels.append(grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]))
        return classifier_pb2_grpc.ClassifierStub(channels[-1])  # type: ignore[no-untyped-call]

    yield connect
    for channel in channels:
        channel.close()


@pytest.mark.parametrize(("bulk", "requests"), [(singles, 60), (dozens, 15), (large, 1), (streams, 12)])
def test_a_single_image_waits_for_one_run_more_at_most(
    serve: Serve,
    gated: GatedDetector,
    submissions: Submissions,
    stub_of_its_own: Callable[[str], Any],
    bulk: Bulk,
    requests: int,
) -> None:
    served = serve(gated, max_batch=4, max_queue=64)
    first = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    under_way = bulk(served.stub)
    submissions.wait(1 + requests)  # of streams as much as is read ahead
    mine = stub_of_its_own(served.address).Classify.future(request(1))
    submissions.wait(1)
    gated.release()
    assert len(first.result().results) == len(mine.result().results) == 1
    assert 1 in (*gated.runs[1], *gated.runs[2])
    for each in under_way:
        assert list(each) if bulk is streams else each.result()


def test_each_client_has_a_connection_of_its_own(serve: Serve, tiny: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    callers: list[str] = []
    submit = Batcher.submit

    def noted(batcher: Batcher, ticket: Ticket) -> None:
        callers.append(ticket.caller)
        submit(batcher, ticket)

    monkeypatch.setattr(Batcher, "submit", noted)
    address = serve(tiny).address
    with Client(address) as one, Client(address) as other:
        for client in (one, other, one):
            client.classify(picture(1)[None])
    assert callers[0] == callers[2] != callers[1]


def test_a_caller_is_a_token_or_a_connection() -> None:
    class Context:
        def peer(self) -> str:
            return "ipv4:127.0.0.1:4711"

    def with_token(name: str) -> str:
        calls._caller.set(name)
        return caller_of(Context())  # type: ignore[arg-type]

    assert copy_context().run(with_token, "alice") == "alice"
    assert copy_context().run(with_token, "") == "ipv4:127.0.0.1:4711"
