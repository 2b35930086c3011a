"""`ledgate.v1.Classifier`: calls come in through the gate, and leave with an answer or a status."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NoReturn, TypeVar

import grpc

from detector.errors import InputError, NotFound, ResourceExhausted
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.config import ServerConfig
from serving.detecting import Detecting
from serving.gate import Gate, OnDrain, draining
from serving.model import Model
from serving.status import code_of, log_refusal, text_of
from serving.stream import Accepted, Stream
from serving.watching import Watcher

_MAX_NAME: Final = 100

T = TypeVar("T")


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):
    """The service. Nobody is served before `open`.

    Args:
        config: The server's.
        watchers: Told of every batch that any model has answered.

    Attributes:
        gate: Who is inside.
    """

    def __init__(self, config: ServerConfig, watchers: Sequence[Watcher] = ()) -> None:
        self.gate = Gate()
        self._config = config
        self._watchers = watchers
        self._models: dict[str, Model] = {}
        self._streams = threading.BoundedSemaphore(config.max_streams)

    def open(self, detectors: Sequence[Detecting]) -> None:
        """Serves detectors, the first of them to whoever names none.

        Raises:
            InputError: No detector, or two of one name.
        """
        names = [detector.bundle.name for detector in detectors]
        if not names:
            raise InputError("models: expected at least one, found none")
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"models: expected a name for each, found '{name}' {names.count(name)} times")
        self._models = {detector.bundle.name: Model(detector, self._config, self._watchers) for detector in detectors}
        self.gate.open()

    @property
    def models(self) -> tuple[Model, ...]:
        """What is served now."""
        return tuple(self._models.values())

    def drain(self, timeout_s: float) -> int:
        """Lets nobody in any more and waits for the calls inside; returns how many are left."""
        for model in self._models.values():
            model.batcher.hurry()
        return self.gate.drain(timeout_s)

    def close(self) -> None:
        """Ends the models; whoever still waits is told so."""
        for model in self._models.values():
            model.batcher.close()

    def Classify(  # noqa: N802
        self, request: classifier_pb2.ClassifyRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.ClassifyResponse:
        """Classifies the images of one request."""

        def classify() -> classifier_pb2.ClassifyResponse:
            self._enter(context)
            accepted = self._accept(context, request)
            _on_end(context, accepted.cancel)
            return accepted.reply()

        return _guarded(context, classify, request.request_id)

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[classifier_pb2.ClassifyRequest], context: grpc.ServicerContext
    ) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        """Classifies a stream of requests, answered in order."""
        stream = Stream(partial(self._accept, context), window=self._config.stream_window)
        _guarded(context, partial(self._enter_stream, context, stream))
        yield from stream.responses(request_iterator)
        if stream.drained:
            _refuse(context, draining())

    def GetModel(  # noqa: N802
        self, request: classifier_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.Model:
        """Describes a model."""

        def describe() -> classifier_pb2.Model:
            self._enter(context)
            return self._find(request.model).describe(list(self._models))

        return _guarded(context, describe)

    def _enter(self, context: grpc.ServicerContext, on_drain: OnDrain | None = None) -> None:
        """Lets a call in until gRPC has done with it, its reply sent."""
        self.gate.enter(on_drain)
        _on_end(context, partial(self.gate.leave, on_drain))

    def _enter_stream(self, context: grpc.ServicerContext, stream: Stream) -> None:
        """Lets a stream in, of which there are only so many: each holds two threads while it is open."""
        if not self._streams.acquire(blocking=False):
            limit = self._config.max_streams
            raise ResourceExhausted(f"streams: expected at most {limit} open at a time, found {limit} open")
        _on_end(context, self._streams.release)
        self._enter(context, stream.drain)
        _on_end(context, stream.cancel)

    def _accept(self, context: grpc.ServicerContext, request: classifier_pb2.ClassifyRequest) -> Accepted:
        """Checks a request and puts it into its model's queue, for as long as its caller will wait."""
        model = self._find(request.model)
        return Accepted(model=model, ticket=model.submit(request, remaining_s=_remaining_s(context)))

    def _find(self, name: str) -> Model:
        """The model of that name, or the first."""
        if not name:
            return next(iter(self._models.values()))
        if name not in self._models:
            found = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}..."
            raise NotFound(f"model: expected {' or '.join(self._models)}, found {found!r}")
        return self._models[name]


def _on_end(context: grpc.ServicerContext, callback: Callable[[], None]) -> None:
    """Calls back when a call is over, answered or given up; at once where it is over already."""
    if not context.add_callback(callback):
        callback()


def _remaining_s(context: grpc.ServicerContext) -> float:
    """Seconds until the caller's deadline; infinity without one."""
    remaining_s = context.time_remaining()
    return math.inf if remaining_s is None else remaining_s


def _guarded(context: grpc.ServicerContext, work: Callable[[], T], request_id: str = "") -> T:
    """Does the work of a call; any error becomes the call's status."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  a caller never meets anything but a status
        log_refusal(error, request_id)
        refusal = error
    return _refuse(context, refusal)


def _refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """Ends a call with an error's status."""
    context.abort(code_of(error), text_of(error))
