"""`inference.GRPCInferenceService`: the same models, gate and queues as `ledgate.v1`, and the same statuses."""

from collections.abc import Sequence
from functools import cached_property, partial
from importlib.metadata import version
from typing import Final

import grpc

from detector.errors import InputError, NotFound
from protos.inference import inference_pb2, inference_pb2_grpc
from serving.config import Reply, ServerConfig
from serving.deferred import Begun, Deferred
from serving.detecting import Detecting
from serving.inference.outputs import Output, chosen, offered
from serving.inference.requests import DATATYPE, INPUT, classify_request, renamed, shown
from serving.model import Model
from serving.reception import Reception
from serving.rpc import guarded, on_end
from serving.stream import Accepted

SERVICE: Final = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_PLATFORM: Final = "ledgate"
# Of a model one version is served at a time. Which it is, its digest says, in the parameters of a reply.
_VERSION: Final = "1"


class InferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The service.

    Args:
        config: The server's.
        reception: Where calls come in.
    """

    def __init__(self, config: ServerConfig, reception: Reception) -> None:
        self._config = config
        self._reception = reception

    def ServerLive(  # noqa: N802
        self, _request: inference_pb2.ServerLiveRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerLiveResponse:
        """Whether there is a server: there is."""
        return inference_pb2.ServerLiveResponse(live=True)

    def ServerReady(  # noqa: N802
        self, _request: inference_pb2.ServerReadyRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerReadyResponse:
        """Whether calls are let in."""
        return inference_pb2.ServerReadyResponse(ready=self._reception.gate.is_open)

    def ModelReady(  # noqa: N802
        self, request: inference_pb2.ModelReadyRequest, context: grpc.ServicerContext
    ) -> inference_pb2.ModelReadyResponse:
        """Whether calls to a model are let in."""

        def ready() -> inference_pb2.ModelReadyResponse:
            if self._reception.gate.is_open:
                self._find(request.name, request.version)
                return inference_pb2.ModelReadyResponse(ready=True)
            return inference_pb2.ModelReadyResponse(ready=False)

        return guarded(context, ready)

    def ServerMetadata(  # noqa: N802
        self, _request: inference_pb2.ServerMetadataRequest, _context: grpc.ServicerContext
    ) -> inference_pb2.ServerMetadataResponse:
        """Who answers."""
        return inference_pb2.ServerMetadataResponse(name="ledgate", version=version("ledgate"))

    def ModelMetadata(  # noqa: N802
        self, request: inference_pb2.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> inference_pb2.ModelMetadataResponse:
        """What a model takes and answers."""

        def describe() -> inference_pb2.ModelMetadataResponse:
            self._reception.enter(context)
            model = self._find(request.name, request.version)
            bundle = model.detector.bundle
            response = inference_pb2.ModelMetadataResponse(
                name=model.name,
                versions=[_VERSION],
                platform=_PLATFORM,
                outputs=[output.describe(bundle) for output in offered(bundle, self._config)],
            )
            response.inputs.add(name=INPUT, datatype=DATATYPE, shape=(-1, *bundle.input.shape))
            return response

        return guarded(context, describe)

    @cached_property
    def ModelInfer(self) -> Deferred:  # noqa: N802
        """Classifies images."""
        # Numbers one by one take long to read.
        return Deferred(self._infer, light=lambda request: bool(request.raw_input_contents))

    def RepositoryIndex(  # noqa: N802
        self, _request: inference_pb2.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> inference_pb2.RepositoryIndexResponse:
        """Which models there are."""

        def index() -> inference_pb2.RepositoryIndexResponse:
            self._reception.enter(context)
            response = inference_pb2.RepositoryIndexResponse()
            for name in self._reception.models.names:
                response.models.add(name=name, version=_VERSION, state="READY")
            return response

        return guarded(context, index)

    def _infer(
        self, request: inference_pb2.ModelInferRequest, context: grpc.ServicerContext
    ) -> Begun[inference_pb2.ModelInferResponse]:
        """Puts a request into its model's queue."""

        def begin() -> Begun[inference_pb2.ModelInferResponse]:
            self._reception.enter(context)
            self._find(request.model_name, request.model_version)
            accepted = self._accept(context, request)
            on_end(context, accepted.cancel)
            # Of the version that answers, which may be newer than the one that was found.
            bundle = accepted.model.detector.bundle
            outputs = chosen(offered(bundle, self._config), request.outputs)
            return Begun(
                then=accepted.ticket.then,
                finish=lambda context: guarded(context, partial(self._reply, accepted, request, outputs), request.id),
            )

        return guarded(context, begin, request.id)

    def _accept(self, context: grpc.ServicerContext, request: inference_pb2.ModelInferRequest) -> Accepted:
        """Puts a request into its model's queue, or says in this protocol's words why not."""
        try:
            return self._reception.accept(context, classify_request(request, allow_members=self._config.allow_members))
        except InputError as error:
            refusal = renamed(str(error), request)
        raise InputError(refusal)  # not while the other, whose frames hold the request, is handled

    def _reply(
        self, accepted: Accepted, request: inference_pb2.ModelInferRequest, outputs: Sequence[Output]
    ) -> inference_pb2.ModelInferResponse:
        """Waits for the verdicts, and writes what was asked for."""
        verdicts = accepted.ticket.wait()
        reply = inference_pb2.ModelInferResponse(model_name=accepted.model.name, model_version=_VERSION, id=request.id)
        _tell(reply, accepted.model.detector, full=self._config.reply is Reply.FULL)
        for output in outputs:
            output.write(verdicts, reply, raw=bool(request.raw_input_contents))
        return reply

    def _find(self, name: str, version: str) -> Model:
        """The model of that name; the protocol's versions are numbers, and ours is always the first."""
        model = self._reception.models.find(name)
        if version not in ("", _VERSION):
            raise NotFound(f"model_version: expected '{_VERSION}' or none, found {shown(version)}")
        return model


def _tell(reply: inference_pb2.ModelInferResponse, detector: Detecting, *, full: bool) -> None:
    """Writes to a reply which version of the model answered, and what its flags mean."""
    calibration = detector.bundle.calibration
    reply.parameters["bundle_digest"].string_param = detector.bundle.digest
    reply.parameters["provider"].string_param = detector.execution_path.provider
    if calibration is None:
        return
    reply.parameters["calibration_digest"].string_param = calibration.digest
    reply.parameters["score_name"].string_param = calibration.score
    if full and calibration.limit.overall is not None:
        # As text, from which it is read back to the bit: KServe's clients know no parameter that is a double.
        reply.parameters["threshold"].string_param = repr(float(calibration.limit.overall))
