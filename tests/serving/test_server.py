"""The server's life: ports, health, reflection, starting, draining, ending."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from detector.detector import Detector
from detector.errors import InputError, ServiceError
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.client import Client
from serving.config import ServerConfig
from serving.server import Server
from tests.serving.conftest import PATIENCE_S, GatedDetector, Served, Submissions, request
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ("", "ledgate.v1.Classifier", "inference.GRPCInferenceService")


class Health:
    """The health of a server, as a client that is not ours sees it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)

    def check(self, name: str) -> int:
        return int(self._stub.Check(health_pb2.HealthCheckRequest(service=name)).status)

    def watch(self, name: str) -> Iterator[int]:
        for answer in self._stub.Watch(health_pb2.HealthCheckRequest(service=name)):
            yield answer.status


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that listens and has no model yet."""
    with Server(ServerConfig(port=0)) as started:
        started.start()
        yield started


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def test_before_its_models_are_ready_it_says_so(server: Server, channel: grpc.Channel, tiny: Detector) -> None:
    health, stub = Health(channel), classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
    assert [health.check(name) for name in NAMES] == [NOT_SERVING] * 3
    for call in (
        lambda: stub.Classify(request(1)),
        lambda: stub.GetModel(pb.GetModelRequest()),
        lambda: list(stub.ClassifyStream(iter([request(1)]))),
    ):
        with pytest.raises(grpc.RpcError, match="the server is starting") as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    server.open([tiny])
    assert [health.check(name) for name in NAMES] == [SERVING] * 3
    assert_own(stub.Classify(request(1)), tiny, 1)


def test_health_of_what_is_not_here(server: Server, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        Health(channel).check("nope")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_shows_the_whole_interface(server: Server, channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "ledgate.v1.Classifier",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("ledgate.v1.Classifier")
    assert [method.name for method in service.methods] == ["Classify", "ClassifyStream", "GetModel"]
    other = pool.FindServiceByName("inference.GRPCInferenceService")
    assert "ModelInfer" in [method.name for method in other.methods]
    # Its own types come from the server too, and those they are made of.
    taken = service.methods_by_name["Classify"].input_type
    assert taken is not None
    assert taken.full_name == "ledgate.v1.ClassifyRequest"
    status: Any = pool.FindMessageTypeByName("ledgate.v1.ClassifyStreamResponse").fields_by_name["status"]
    assert status.message_type.full_name == "google.rpc.Status"


def test_draining_answers_what_was_accepted_and_refuses_what_comes(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated, max_batch=64, batch_wait_s=3600.0, max_queue=100)
    states = Health(served.channel).watch("ledgate.v1.Classifier")
    assert next(states) == SERVING
    accepted = [served.stub.Classify.future(request(number)) for number in range(20)]
    submissions.wait(20)
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(served.server.stop, PATIENCE_S)
        assert next(states) == NOT_SERVING
        gated.wait_for_run()  # in a hurry now, nobody waits an hour for company
        assert [Health(served.channel).check(name) for name in NAMES] == [NOT_SERVING] * 3
        with pytest.raises(grpc.RpcError, match="the server is draining") as caught:
            served.stub.Classify(request(99))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not stopped.done()
        gated.release()
        for number, reply in enumerate(accepted):
            assert_own(reply.result(), tiny, number)
        assert stopped.result() == 0
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Classify(request(99))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_draining_ends_an_idle_stream(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny)
    hold = threading.Event()

    def messages() -> Iterator[pb.ClassifyRequest]:
        yield request(1)
        hold.wait(PATIENCE_S)

    answers = served.stub.ClassifyStream(messages())
    assert_own(next(answers).response, tiny, 1)
    begun = time.monotonic()
    assert served.server.stop(PATIENCE_S) == 0
    assert time.monotonic() - begun < PATIENCE_S / 2
    with pytest.raises(grpc.RpcError, match="the server is draining") as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    hold.set()


def test_draining_answers_what_a_stream_has_read(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    hold = threading.Event()

    def messages() -> Iterator[pb.ClassifyRequest]:
        yield from (request(number) for number in range(5))
        hold.wait(PATIENCE_S)

    answers = served.stub.ClassifyStream(messages())
    submissions.wait(5)
    states = Health(served.channel).watch("")
    assert next(states) == SERVING
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(served.server.stop, PATIENCE_S)
        assert next(states) == NOT_SERVING
        gated.release()
        for number in range(5):
            assert_own(next(answers).response, tiny, number)
        with pytest.raises(grpc.RpcError, match="the server is draining"):
            next(answers)
        assert stopped.result() == 0
    hold.set()


def test_when_the_grace_runs_out_callers_are_told(tiny: Detector, submissions: Submissions) -> None:
    gated = GatedDetector(tiny)
    server = Server(ServerConfig(port=0, grace_s=0.1))
    server.start()
    server.open([gated])
    with grpc.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        running = stub.Classify.future(request(0))
        gated.wait_for_run()
        waiting = stub.Classify.future(request(1))
        submissions.wait(2)
        assert server.stop() == 2
        for call in (running, waiting):
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            assert call.details() == "the server has stopped"
    gated.release()
    assert gated.runs == [[0]]


def test_stopping_twice_is_stopping_once(tiny: Detector) -> None:
    with Server(ServerConfig(port=0)) as server:
        server.start()
        server.open([tiny])
        assert server.stop() == 0
        assert server.stop() == 0


def test_a_server_that_never_started_stops() -> None:
    with Server(ServerConfig(port=0)) as server:
        assert server.address == ""


def test_a_port_in_use_is_refused(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(server.address.rpartition(":")[2])
    with (
        Server(ServerConfig(port=port)) as other,
        pytest.raises(ServiceError, match=rf"^127.0.0.1:{port}: expected a free port, found one in use$"),
    ):
        other.start()
    assert capfd.readouterr() == ("", "")


def test_servers_that_want_to_may_share_a_port(tiny: Detector) -> None:
    with Server(ServerConfig(port=0)) as scout:
        scout.start()
        port = int(scout.address.rpartition(":")[2])
    config = ServerConfig(port=port, share_port=True)
    with Server(config) as one, Server(config) as other, Server(ServerConfig(port=port)) as unsharing:
        for server in (one, other):
            server.start()
            server.open([tiny])
        with pytest.raises(ServiceError, match="expected a free port, found one in use"):
            unsharing.start()
        one.stop()
        with Client(f"127.0.0.1:{port}") as client:  # the other is left
            client.wait_ready(10)


def test_a_port_in_use_by_another_program_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            Server(ServerConfig(port=taken.getsockname()[1])) as server,
            pytest.raises(ServiceError, match="expected a free port, found one in use"),
        ):
            server.start()


@pytest.mark.parametrize(
    ("host", "found"),
    [("host.invalid", "expected a host of this machine, found none"), ("192.0.2.1", "Cannot assign requested address")],
)
def test_a_host_of_others_is_refused(host: str, found: str) -> None:
    with Server(ServerConfig(host=host, port=0)) as server, pytest.raises(ServiceError, match=found):
        server.start()


def test_two_models_of_one_name_are_refused(server: Server, tiny: Detector) -> None:
    with pytest.raises(InputError, match="models: expected a name for each, found 'tiny' 2 times"):
        server.open([tiny, tiny])


def test_no_model_is_refused(server: Server) -> None:
    with pytest.raises(InputError, match="models: expected at least one, found none"):
        server.open([])
