"""Traces, seen by OpenTelemetry's own exporter in memory, and by a collector that a real server sends them to."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from detector.detector import Detector
from ledgate.cli import main
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.calls import Calls
from serving.config import ServerConfig
from serving.server import Server
from serving.traces import Traces
from tests.serving.conftest import PATIENCE_S, request

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = (("traceparent", f"00-{TRACE}-{SPAN}-01"),)


class Traced:
    """A server whose spans are kept in memory until it has stopped."""

    def __init__(self, detector: Detector, *inside: grpc.ServerInterceptor, **config: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._traces = Traces(self._exporter)
        interceptors, watchers = [self._traces.interceptor, *inside], [self._traces.ran]
        self._server = Server(ServerConfig(port=0, **config), interceptors=interceptors, watchers=watchers)
        self._server.start()
        self._server.open([detector])
        self._channel = grpc.insecure_channel(self._server.address)
        self.stub = classifier_pb2_grpc.ClassifierStub(self._channel)  # type: ignore[no-untyped-call]

    def spans(self) -> dict[str, list[ReadableSpan]]:
        """Stops the server; all spans by name."""
        self._channel.close()
        self._server.stop()
        self._traces.close()
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


def facts(span: ReadableSpan) -> dict[str, Any]:
    """The attributes that are ours."""
    return {key.removeprefix("ledgate."): value for key, value in (span.attributes or {}).items() if "ledgate" in key}


def test_a_call_is_in_its_callers_trace_with_queue_and_compute_inside(tiny: Detector) -> None:
    traced = Traced(tiny)
    reply = traced.stub.Classify(request(1, 2, request_id="one"), metadata=CALLER)
    spans = traced.spans()
    (call,) = spans.pop("/ledgate.v1.Classifier/Classify")
    (queue,), (compute,) = spans.pop("queue"), spans.pop("compute")
    assert not spans
    assert {f"{span.context.trace_id:032x}" for span in (call, queue, compute)} == {TRACE}
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == SPAN
    assert [span.parent and span.parent.span_id for span in (queue, compute)] == [call.context.span_id] * 2
    assert facts(queue) == {"request_id": "one"}
    assert facts(compute) == {
        "request_id": "one",
        "model": "tiny",
        "bundle_digest": tiny.bundle.digest,
        "images": 2,
        "batch_images": 2,
        "flagged_images": sum(answer.adversarial for answer in reply.results),
    }
    assert call.resource.attributes["service.name"] == "ledgate"


def test_spans_follow_each_other_in_time(tiny: Detector) -> None:
    traced = Traced(tiny)
    traced.stub.Classify(request(1))
    spans = traced.spans()
    (call,), (queue,), (compute,) = spans["/ledgate.v1.Classifier/Classify"], spans["queue"], spans["compute"]
    assert queue.end_time == compute.start_time
    times = (call.start_time, queue.start_time, queue.end_time, compute.end_time, call.end_time)
    slack = 20_000_000  # two clocks, one of which may be set while they are compared
    assert all(one is not None and two is not None and one <= two + slack for one, two in pairwise(times))


def test_a_request_larger_than_a_batch_has_a_span_for_each_part(tiny: Detector) -> None:
    traced = Traced(tiny, max_batch=2)
    traced.stub.Classify(request(1, 2, 3))
    spans = traced.spans()
    (call,) = spans["/ledgate.v1.Classifier/Classify"]
    assert sorted(facts(span)["images"] for span in spans["compute"]) == [1, 2]
    assert {span.parent and span.parent.span_id for span in spans["compute"]} == {call.context.span_id}


def test_the_messages_of_a_stream_are_in_its_trace(tiny: Detector) -> None:
    traced = Traced(tiny)
    assert len(list(traced.stub.ClassifyStream(iter([request(1), request(2)]), metadata=CALLER))) == 2
    spans = traced.spans()
    (call,) = spans["/ledgate.v1.Classifier/ClassifyStream"]
    assert [span.parent and span.parent.span_id for span in spans["compute"]] == [call.context.span_id] * 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "other"}, grpc.StatusCode.NOT_FOUND),
        ({"request_id": "z" * 257}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_refused_call_is_an_error_and_was_never_computed(
    tiny: Detector, fields: dict[str, str], code: grpc.StatusCode
) -> None:
    traced = Traced(tiny)
    with pytest.raises(grpc.RpcError):
        traced.stub.Classify(request(1, **fields))
    spans = traced.spans()
    assert set(spans) == {"/ledgate.v1.Classifier/Classify"}
    (call,) = spans["/ledgate.v1.Classifier/Classify"]
    assert (call.attributes or {})["rpc.grpc.status_code"] == code.value[0]
    assert facts(call) == {}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes in what exporters send."""

    def __init__(self) -> None:
        self.spans: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            (name,) = [fact.value.string_value for fact in resource.resource.attributes if fact.key == "service.name"]
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.put((name, span.name))
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    servicer = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(0).wait()


def test_the_command_sends_them_where_the_environment_says(
    folder: Path, collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer, address = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gate of cars")
    command = [sys.executable, "-m", "ledgate", "serve", str(folder / "tiny"), "--port=0", "--device=cpu"]
    with subprocess.Popen([*command, "--threads=1", "--traces", "--json"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        where = server.stdout.readline().split('"address": "')[1].split('"')[0]
        with grpc.insecure_channel(where) as channel:
            classifier_pb2_grpc.ClassifierStub(channel).Classify(request(1), timeout=PATIENCE_S)  # type: ignore[no-untyped-call]
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0  # what has not been sent is sent before the end
    found = {servicer.spans.get(timeout=PATIENCE_S) for _ in range(3)}
    assert found == {("gate of cars", name) for name in ("/ledgate.v1.Classifier/Classify", "queue", "compute")}


class Gone(InMemorySpanExporter):
    """A collector that takes nothing, until it is told to go."""

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Event()

    def export(self, spans: Any) -> Any:
        assert self._told.wait(PATIENCE_S)
        return super().export(spans)

    def shutdown(self) -> None:
        self._told.set()


def test_a_collector_that_takes_nothing_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("serving.traces._CLOSE_S", 0.1)
    traces = Traces(Gone())
    traces._tracer.start_span("call").end()
    begun_s = time.monotonic()
    traces.close()
    assert time.monotonic() - begun_s < PATIENCE_S / 3  # of its own accord the library waits as long as PATIENCE_S
    assert "expected a collector to take the last ones within 0.1 s" in caplog.text


def test_the_id_that_a_caller_is_given_is_in_the_spans(tiny: Detector) -> None:
    traced = Traced(tiny, Calls(naming=True, observers=[lambda _: None]))
    _, call = traced.stub.Classify.with_call(request(1))
    given = dict(call.trailing_metadata())["x-request-id"]
    spans = traced.spans()
    assert [facts(span)["request_id"] for name in ("queue", "compute") for span in spans[name]] == [given] * 2


def test_without_opentelemetry_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "serving.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert main(["serve", str(folder / "tiny"), "--port=0", "--traces"]) == 1
    line = "needs opentelemetry, which is not installed; pip install 'ledgate[traces]'"
    assert capsys.readouterr().err.splitlines()[-1] == f"ledgate serve: {line}"
