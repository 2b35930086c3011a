"""A server that does as it is told, over real gRPC on loopback, and time that passes when it is told to."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from protos.ledgate.v1 import classifier_pb2 as pb
from serving.bench.payloads import Format, Payload, Payloads
from serving.modelinfo import ModelInfo

SHAPE = (1, 8, 8)
CLASSES = 3
PATIENCE_S = 30.0

# What a scripted call does: returns a reply, or a code to end with.
Script = Callable[[int, pb.ClassifyRequest], pb.ClassifyResponse | grpc.StatusCode]


def images_of(request: pb.ClassifyRequest) -> int:
    """How many images a request has."""
    return len(request.encoded.images) or request.tensor.shape[0]


def reply(images: int, *, flagged: int = 0) -> pb.ClassifyResponse:
    """A well-formed answer, the first images of it flagged."""
    results = [
        pb.Result(class_index=1, label="b", probabilities=[0.25, 0.5, 0.25], score=-1.0, adversarial=index < flagged)
        for index in range(images)
    ]
    return pb.ClassifyResponse(results=results, model="m")


def good(number: int, request: pb.ClassifyRequest) -> pb.ClassifyResponse:
    """Answers every call well."""
    return reply(images_of(request))


class Scripted(grpc.GenericRpcHandler):
    """A server of `Classify` and `ClassifyStream` that follows a script.

    Attributes:
        address: Where it listens.
        requests: What it has been sent, in order.
        metadata: Of each unary call.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[pb.ClassifyRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self._script = script
        self._numbers = itertools.count()
        self._server = grpc.server(ThreadPoolExecutor(256), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, handler_call_details: Any) -> Any:
        streams = handler_call_details.method.endswith("Stream")
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        return make(
            self._stream if streams else self._unary,
            request_deserializer=pb.ClassifyRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)

    def _answer(self, request: pb.ClassifyRequest) -> Any:
        self.requests.append(request)
        return self._script(next(self._numbers), request)

    def _unary(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self._answer(request)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, f"scripted {answer.name}")
        return answer

    def _stream(self, requests: Iterator[pb.ClassifyRequest], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            answer = self._answer(request)
            if answer is grpc.StatusCode.ABORTED:  # the whole stream, and not one message
                context.abort(answer, "scripted end")
            message = pb.ClassifyStreamResponse()
            if isinstance(answer, grpc.StatusCode):
                message.status.code, message.status.message = answer.value[0], f"scripted {answer.name}"
            else:
                message.response.CopyFrom(answer)
            yield message


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], Scripted]]:
    """Starts servers: `scripted(script)`."""
    started: list[Scripted] = []

    def start(script: Script) -> Scripted:
        started.append(Scripted(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


class Timeline:
    """A clock that moves when somebody sleeps, and does then what was to happen meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end


class Stalling:
    """A server on a timeline with room for any number of calls, which answers none of them during one stall."""

    def __init__(self, timeline: Timeline, *, service: float, stall: tuple[float, float]) -> None:
        self.timeline = timeline
        self.service = service
        self.stall = stall
        self.arrived: list[float] = []

    def answered_at(self, arrived: float) -> float:
        """When a call has its answer that arrives then."""
        begin, end = self.stall
        return (end if begin <= arrived < end else arrived) + self.service

    def send(self, payload: Payload, done: Callable[[str, bytes | None, str], None]) -> None:
        self.arrived.append(self.timeline.now)
        self.timeline.at(
            self.answered_at(self.timeline.now), lambda: done("OK", reply(payload.images).SerializeToString(), "")
        )


def info(**changes: Any) -> ModelInfo:
    """A model of grey 8x8 images, and three classes."""
    message = pb.Model(name="m", members=3, labels=["a", "b", "c"])
    message.input.shape.extend(changes.pop("shape", SHAPE))
    message.limits.max_images = changes.pop("max_images", 64)
    message.limits.max_message_bytes = changes.pop("max_message_bytes", 1 << 20)
    assert not changes
    return ModelInfo.read(message)


def pool(*sizes: int, count: int = 8, seed: int = 0) -> Payloads:
    """Requests of these sizes."""
    images = np.arange(count * 64, dtype=np.uint8).reshape(count, *SHAPE)
    return Payloads(images, sizes or (1,), info=info(), model="", form=Format.UINT8, seed=seed)
