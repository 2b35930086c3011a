"""The wire between callers and the service: bursts, sizes, compression."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.gate import Gate, OnDrain
from tests.serving.conftest import PATIENCE_S, Served, request
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]
BURST = 3000


def burst(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Thousands of calls at once, ended. While gRPC's own thread is busy, they pile up where gRPC by default
    drops them from the 1,000th on.
    """
    busy, free = threading.Event(), threading.Event()
    leave = Gate.leave

    def leave_late(gate: Gate, on_drain: OnDrain | None = None) -> None:
        busy.set()
        assert free.wait(PATIENCE_S)
        leave(gate, on_drain)

    monkeypatch.setattr(Gate, "leave", leave_late)
    served.stub.GetModel(pb.GetModelRequest())
    assert busy.wait(PATIENCE_S)
    calls = [served.stub.Classify.future(request(number % 256), timeout=PATIENCE_S) for number in range(BURST)]
    free.set()
    for call in calls:
        call.code()
    return calls


def test_a_burst_of_thousands_loses_none(serve: Serve, tiny: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = burst(serve(tiny), monkeypatch)  # as a server is by default
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}
    for number in (0, 255, BURST - 1):
        assert_own(calls[number].result(), tiny, number % 256)


def test_a_burst_beyond_the_queue_is_answered_or_refused_and_never_dropped(
    serve: Serve, tiny: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = burst(serve(tiny, max_queue=64), monkeypatch)
    codes = [call.code() for call in calls]
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes.count(grpc.StatusCode.OK) >= 64
    for number, call in enumerate(calls[:256]):
        if codes[number] is grpc.StatusCode.OK:
            assert_own(call.result(), tiny, number)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
@pytest.mark.parametrize("whole_channel", [False, True], ids=["one call", "whole channel"])
def test_compressed_requests_are_read(
    serve: Serve, tiny: Detector, compression: grpc.Compression, whole_channel: bool
) -> None:
    served = serve(tiny)
    numbers = range(64)
    if whole_channel:
        with grpc.insecure_channel(served.address, compression=compression) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            assert_own(stub.Classify(request(*numbers)), tiny, *numbers)
            for answer in stub.ClassifyStream(iter([request(*numbers)])):
                assert_own(answer.response, tiny, *numbers)
    else:
        assert_own(served.stub.Classify(request(*numbers), compression=compression), tiny, *numbers)


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize(
    ("limit_mb", "size_mb", "code"),
    [
        (8, 6, grpc.StatusCode.INVALID_ARGUMENT),  # it has come through, and is no request
        (8, 9, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (1, 2, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_the_largest_message_is_as_configured(
    serve: Serve, tiny: Detector, limit_mb: int, size_mb: int, code: grpc.StatusCode, compression: grpc.Compression
) -> None:
    """gRPC's own limit is 4 MB. Compressed or not, it is the plain size that counts."""
    stub = serve(tiny, max_message_bytes=limit_mb << 20).stub
    with pytest.raises(grpc.RpcError) as caught:
        stub.Classify(pb.ClassifyRequest(tensor=pb.Tensor(data=bytes(size_mb << 20))), compression=compression)
    assert caught.value.code() is code
