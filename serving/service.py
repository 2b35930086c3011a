"""`ledgate.v1.Classifier`: calls come in through the gate, and leave with an answer or a status."""

from collections.abc import Iterator
from functools import cached_property, partial

import grpc

from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.config import ServerConfig
from serving.deferred import Begun, Deferred
from serving.gate import draining
from serving.reception import Reception
from serving.rpc import guarded, on_end, refuse
from serving.stream import Stream
from serving.streams import Streams


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):
    """The service.

    Args:
        config: The server's.
        reception: Where calls come in.
    """

    def __init__(self, config: ServerConfig, reception: Reception) -> None:
        self._config = config
        self._reception = reception
        self._streams = Streams(config.max_streams)

    @cached_property
    def Classify(self) -> Deferred:  # noqa: N802
        """Classifies the images of one request."""
        # Files have to be decoded.
        return Deferred(self._classify, light=lambda request: request.WhichOneof("input") != "encoded")

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[classifier_pb2.ClassifyRequest], context: grpc.ServicerContext
    ) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        """Classifies a stream of requests, answered in order."""
        accept = partial(self._reception.accept, context, patient=True)
        stream = Stream(accept, window=self._config.stream_window, ahead=2 * self._config.max_batch)
        guarded(context, partial(self._enter_stream, context, stream))
        yield from stream.responses(request_iterator)
        if stream.refusal is not None:
            refuse(context, stream.refusal)

    def GetModel(  # noqa: N802
        self, request: classifier_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> classifier_pb2.Model:
        """Describes a model."""

        def describe() -> classifier_pb2.Model:
            self._reception.enter(context)
            models = self._reception.models
            return models.find(request.model).describe(models.names)

        return guarded(context, describe)

    def _classify(
        self, request: classifier_pb2.ClassifyRequest, context: grpc.ServicerContext
    ) -> Begun[classifier_pb2.ClassifyResponse]:
        """Puts a request into its model's queue."""

        def begin() -> Begun[classifier_pb2.ClassifyResponse]:
            self._reception.enter(context)
            accepted = self._reception.accept(context, request)
            on_end(context, accepted.cancel)
            return Begun(
                then=accepted.ticket.then,
                finish=lambda context: guarded(
                    context, partial(accepted.reply, request.request_id), request.request_id
                ),
            )

        return guarded(context, begin, request.request_id)

    def _enter_stream(self, context: grpc.ServicerContext, stream: Stream) -> None:
        """Lets a stream in, of which there are only so many."""
        self._streams.enter(stream)
        on_end(context, partial(self._streams.leave, stream))
        self._reception.enter(context, partial(stream.end, draining()))
        on_end(context, stream.cancel)
