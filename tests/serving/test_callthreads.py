"""Calls without a thread of their own: who runs what, and that callers notice nothing."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

import serving.callthreads
from detector.detector import Detector
from protos.inference import inference_pb2
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.requests import RequestReader
from serving.service import ClassifierService
from tests.serving.conftest import PATIENCE_S, SHAPE, GatedDetector, Served, Submissions, picture, request
from tests.serving.test_service import assert_own

Serve = Callable[..., Served]

CLASSIFY = "/ledgate.v1.Classifier/Classify"
INFER = "/inference.GRPCInferenceService/ModelInfer"


def call_threads() -> set[threading.Thread]:
    """The threads of calls, of all servers of this process."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("call_")}


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the threads that read a request's images, in order."""
    found: list[str] = []
    images = RequestReader.images

    def read(*arguments: Any) -> Any:
        found.append(threading.current_thread().name)
        return images(*arguments)

    monkeypatch.setattr(RequestReader, "images", read)
    return found


def infer(number: int, *, raw: bool) -> inference_pb2.ModelInferRequest:
    """The same request in the Open Inference Protocol, its numbers as bytes or one by one."""
    message = inference_pb2.ModelInferRequest()
    tensor = message.inputs.add(name="images", datatype="FP32", shape=[1, *SHAPE])
    if raw:
        message.raw_input_contents.append(picture(number).tobytes())
    else:
        tensor.contents.fp32_contents.extend(picture(number).ravel().tolist())
    return message


def test_this_grpcio_is_known() -> None:
    assert serving.callthreads.fits()


@pytest.mark.parametrize("name", ["_receive_message", "_unary_response_in_pool", "_abort", "_Context"])
def test_a_grpcio_with_other_arguments_is_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(f"grpc._server.{name}", lambda *arguments: arguments)
    assert not serving.callthreads.fits()


@pytest.mark.parametrize("name", ["_receive_message", "_RECEIVE_MESSAGE_TOKEN"])
def test_a_grpcio_that_lacks_something_is_not(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(f"grpc._server.{name}")
    assert not serving.callthreads.fits()


def test_calls_that_wait_hold_no_thread(
    serve: Serve, gated: GatedDetector, tiny: Detector, submissions: Submissions
) -> None:
    served = serve(gated)
    before = call_threads()
    replies = [served.stub.Classify.future(request(number)) for number in range(50)]
    call: Any = served.channel.unary_unary(INFER)
    more = [call.future(infer(number, raw=True).SerializeToString()) for number in range(50)]
    submissions.wait(100)
    assert call_threads() <= before
    gated.release()
    for number, reply in enumerate(replies):
        assert_own(reply.result(), tiny, number)
    assert all(reply.code() is grpc.StatusCode.OK for reply in more)


def test_with_another_grpcio_each_call_has_its_thread(
    serve: Serve,
    gated: GatedDetector,
    tiny: Detector,
    submissions: Submissions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(serving.callthreads, "fits", lambda: False)
    served = serve(gated)
    before = call_threads()
    replies = [served.stub.Classify.future(request(number)) for number in range(5)]
    submissions.wait(5)
    assert len(call_threads() - before) >= 5
    assert f"grpcio {grpc.__version__} is not known" in caplog.text
    gated.release()
    for number, reply in enumerate(replies):
        assert_own(reply.result(), tiny, number)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (CLASSIFY, pb.ClassifyRequest(encoded=pb.EncodedImages(images=[b"no image"]))),
        (CLASSIFY, request(*range(256), *range(256), *range(256))),
        (INFER, infer(1, raw=False)),
    ],
    ids=["files", "a large message", "numbers one by one"],
)
def test_what_takes_long_to_read_has_a_thread(
    serve: Serve, tiny: Detector, readers: list[str], method: str, message: Any
) -> None:
    served = serve(tiny, max_images=768, max_queue=768)
    served.channel.unary_unary(method).future(message.SerializeToString()).code()
    assert [name.startswith("call_") for name in readers] == [True]


@pytest.mark.parametrize(
    ("method", "message"), [(CLASSIFY, request(1)), (INFER, infer(1, raw=True))], ids=["ours", "open inference"]
)
def test_what_does_not_has_none(serve: Serve, tiny: Detector, readers: list[str], method: str, message: Any) -> None:
    served = serve(tiny)
    assert served.channel.unary_unary(method).future(message.SerializeToString()).code() is grpc.StatusCode.OK
    assert [name.startswith("call_") for name in readers] == [False]


def test_a_call_without_a_message_is_refused(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny)
    with pytest.raises(grpc.RpcError, match="exactly one request message") as caught:
        served.channel.stream_unary(CLASSIFY)(iter(()), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_bug_at_the_beginning_ends_its_call_alone(
    serve: Serve, tiny: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ClassifierService._classify

    def broken(service: ClassifierService, message: pb.ClassifyRequest, context: grpc.ServicerContext) -> Any:
        if message.request_id == "bad":
            raise RuntimeError("secret")
        return whole(service, message, context)

    monkeypatch.setattr(ClassifierService, "_classify", broken)
    served = serve(tiny)
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Classify(request(1, request_id="bad"), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert_own(served.stub.Classify(request(2), timeout=PATIENCE_S), tiny, 2)


def test_the_reply_of_a_large_call_is_that_of_a_small_one(serve: Serve, tiny: Detector) -> None:
    served = serve(tiny, max_images=768, max_queue=768)
    numbers = [*range(256), *range(256), *range(256)]
    reply = served.stub.Classify(request(*numbers), timeout=PATIENCE_S)
    each = served.stub.Classify(request(5), timeout=PATIENCE_S)
    assert reply.results[5] == reply.results[261] == each.results[0]
    assert np.array_equal([result.class_index for result in reply.results[:256]], tiny.classify(
        np.stack([picture(number) for number in range(256)])
    ).labels)  # fmt: skip
