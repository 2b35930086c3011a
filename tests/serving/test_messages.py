"""Bytes that are no message, sent to every method: refused like any other mistake, and not a word in the log."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.inference.service import SERVICE as INFERENCE
from serving.logs import JsonFormatter
from serving.server import SERVICE
from tests.serving.conftest import Served, request
from tests.serving.operating import operated, scrape, value
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]
NONE = b"\xff\xff\xff\xff"
CLASSIFY = f"{SERVICE}/Classify"


def methods(*, streaming: bool) -> list[str]:
    """Of all services, those that take one message or a stream of them."""
    pool = descriptor_pool.Default()
    return [
        f"{name}/{method.name}"
        for name in (SERVICE, INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        for method in pool.FindServiceByName(name).methods
        if method.client_streaming is streaming
    ]


def sent(channel: Any, method: str, content: bytes) -> Any:
    """What the caller of a method with one message hears."""
    call = channel.unary_stream if method.endswith("/Watch") else channel.unary_unary
    with pytest.raises(grpc.RpcError) as caught:
        list(call(f"/{method}")(content))
    return caught.value


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing above DEBUG in the log."""
    caplog.set_level(logging.DEBUG)
    yield
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize("method", methods(streaming=False))
@pytest.mark.usefixtures("quiet")
def test_one_message(serve: Serve, tiny: Detector, method: str) -> None:
    served = serve(tiny)
    error = sent(served.channel, method, NONE)
    service, name = method.split("/")
    expected = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name].input_type.name
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"message: expected {expected}, found 4 bytes that are none"
    assert_own(served.stub.Classify(request(1)), tiny, 1)


@pytest.mark.usefixtures("quiet")
def test_half_a_message(serve: Serve, tiny: Detector) -> None:
    content = request(1).SerializeToString()[:-5]
    error = sent(serve(tiny).channel, CLASSIFY, content)
    assert error.details() == f"message: expected ClassifyRequest, found {len(content)} bytes that are none"


@pytest.mark.usefixtures("quiet")
def test_one_of_our_stream_is_answered_by_a_status_and_the_others_as_ever(serve: Serve, tiny: Detector) -> None:
    channel: Any = serve(tiny).channel
    send = channel.stream_stream(
        f"/{SERVICE}/ClassifyStream", response_deserializer=pb.ClassifyStreamResponse.FromString
    )
    first, bad, last = send(iter([request(1).SerializeToString(), NONE, request(2).SerializeToString()]))
    assert_own(first.response, tiny, 1)
    assert bad.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert bad.status.message == "message: expected ClassifyRequest, found 4 bytes that are none"
    assert_own(last.response, tiny, 2)


@pytest.mark.usefixtures("quiet")
def test_one_ends_any_other_stream(serve: Serve, tiny: Detector) -> None:
    (method,) = set(methods(streaming=True)) - {f"{SERVICE}/ClassifyStream"}
    channel: Any = serve(tiny).channel
    with pytest.raises(grpc.RpcError, match="message: expected ServerReflectionRequest, found 4 bytes") as caught:
        list(channel.stream_stream(f"/{method}")(iter([NONE])))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_they_are_counted_and_in_the_access_log(tiny: Detector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ledgate.access")
    with (
        operated(tiny, access_log=True, metrics_port=0) as (server, operations),
        grpc.insecure_channel(server.address) as channel,
    ):
        error = sent(channel, CLASSIFY, NONE)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        samples = scrape(operations)
    assert value(samples, "ledgate_requests_total", method=CLASSIFY, code="INVALID_ARGUMENT") == 1
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert (line["method"], line["code"]) == (CLASSIFY, "INVALID_ARGUMENT")
    assert line["request_id"] == dict(error.trailing_metadata())["x-request-id"]
