"""`ledgate.v1.Classifier`: calls come in through the gate, and leave with an answer or a status."""

import threading
from collections.abc import Iterator
from functools import partial

import grpc

from detector.errors import ResourceExhausted
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.config import ServerConfig
from serving.gate import draining
from serving.reception import Reception
from serving.rpc import guarded, on_end, refuse
from serving.stream import Stream


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):
    """The service.

    Args:
        config: The server's.
        reception: Where calls come in.
    """

    def __init__(self, config: ServerConfig, reception: Reception) -> None:
        self._config = config
        self._reception = reception
        self._streams = threading.BoundedSemaphore(config.max_streams)

    def Classify(  # noqa: N802
        self, request: classifier_pb2.ClassifyRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.ClassifyResponse:
        """Classifies the images of one request."""

        def classify() -> classifier_pb2.ClassifyResponse:
            self._reception.enter(context)
            accepted = self._reception.accept(context, request)
            on_end(context, accepted.cancel)
            return accepted.reply()

        return guarded(context, classify, request.request_id)

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[classifier_pb2.ClassifyRequest], context: grpc.ServicerContext
    ) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        """Classifies a stream of requests, answered in order."""
        stream = Stream(partial(self._reception.accept, context), window=self._config.stream_window)
        guarded(context, partial(self._enter_stream, context, stream))
        yield from stream.responses(request_iterator)
        if stream.drained:
            refuse(context, draining())

    def GetModel(  # noqa: N802
        self, request: classifier_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.Model:
        """Describes a model."""

        def describe() -> classifier_pb2.Model:
            self._reception.enter(context)
            models = self._reception.models
            return models.find(request.model).describe(models.names)

        return guarded(context, describe)

    def _enter_stream(self, context: grpc.ServicerContext, stream: Stream) -> None:
        """Lets a stream in, of which there are only so many: each holds two threads while it is open."""
        if not self._streams.acquire(blocking=False):
            limit = self._config.max_streams
            raise ResourceExhausted(f"streams: expected at most {limit} open at a time, found {limit} open")
        on_end(context, self._streams.release)
        self._reception.enter(context, stream.drain)
        on_end(context, stream.cancel)
