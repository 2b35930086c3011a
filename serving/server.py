"""The server: port, health, reflection, and the order of starting and stopping.

It listens before its models are ready, and says so (health NOT_SERVING, calls UNAVAILABLE), and it
goes on listening while it drains, so that a caller who comes too late hears UNAVAILABLE instead of
meeting a closed connection.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from detector.errors import ServiceError
from protos.inference.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from protos.ledgate.v1 import classifier_pb2
from protos.ledgate.v1.classifier_pb2_grpc import add_ClassifierServicer_to_server
from serving.callthreads import CallThreads
from serving.config import ServerConfig, address
from serving.detecting import Detecting
from serving.hiding import check_hidden
from serving.inference.service import SERVICE as INFERENCE
from serving.inference.service import InferenceService
from serving.messages import Registry
from serving.model import Model
from serving.ports import check_free
from serving.reception import Reception
from serving.service import ClassifierService
from serving.watching import Watcher

SERVICE: Final = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name
_SERVICES: Final = (SERVICE, INFERENCE)
_HEALTH_NAMES: Final = (health.OVERALL_HEALTH, *_SERVICES)
# gRPC answers a burst with a bare CANCELLED from its 1,000th call on that no thread has taken up;
# the queue of each model refuses earlier and says why.
_MAX_PENDING: Final = 1 << 20
# For calls that never end, such as a health watch, once all others have been answered.
_LAST_GRACE_S: Final = 0.5


class Server:
    """A server; made, `start`ed, `open`ed and `stop`ped once.

    Args:
        config: How it runs.
        models: How many models it will serve.
        watchers: Told of every batch that a model has answered.
        interceptors: gRPC's, around every call of every service.
        credentials: gRPC's, for TLS; None speaks plaintext.

    Attributes:
        address: Host and port, once it has started.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        models: int = 1,
        watchers: Sequence[Watcher] = (),
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._reception = Reception(config, watchers)
        self._health = health.HealthServicer()
        self._threads = CallThreads(config.call_threads(models))
        self._grpc = grpc.server(self._threads, interceptors=list(interceptors), options=_options(config))
        registry = Registry(self._grpc, itself=f"{SERVICE}/ClassifyStream")
        add_ClassifierServicer_to_server(ClassifierService(config, self._reception), registry)  # type: ignore[no-untyped-call]
        add_GRPCInferenceServiceServicer_to_server(InferenceService(config, self._reception), registry)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), registry)
        self._tell_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listens. Calls are UNAVAILABLE until `open`.

        Raises:
            ServiceError: The address cannot be listened on.
        """
        host, port = self._config.host, self._config.port
        check_free(host, port, shared=self._config.share_port)
        try:
            port = self._listen(address(host, port))
        except RuntimeError as error:
            raise ServiceError(f"{address(host, port)}: expected an address to listen on, found: {error}") from None
        self.address = address(host, port)
        self._grpc.start()

    @property
    def models(self) -> tuple[Model, ...]:
        """What is served now."""
        return self._reception.models.current

    def open(self, detectors: Sequence[Detecting]) -> None:
        """Serves models, the first of them to whoever names none.

        Raises:
            InputError: No model, or two of one name.
            CalibrationError: Replies are flag-only, and would tell a model's score all the same.
        """
        for detector in detectors:
            check_hidden(detector.bundle, self._config.reply)
        self._reception.open(detectors)
        self._tell_health(health_pb2.HealthCheckResponse.SERVING)

    def replace(self, detector: Detecting) -> None:
        """Serves a new version of the model of the detector's name.

        What the old version has accepted it still answers; no call is lost, and no batch mixes the two.

        Raises:
            NotFound: There is no model of that name.
            CalibrationError: Replies are flag-only, and would tell its score all the same.
        """
        check_hidden(detector.bundle, self._config.reply)
        self._reception.models.replace(detector)

    def stop(self, grace_s: float | None = None) -> int:
        """Answers what has been accepted, refuses what comes, and ends.

        Args:
            grace_s: Most seconds to answer; by default the config's.

        Returns:
            How many calls were not answered in that time.
        """
        self._health.enter_graceful_shutdown()
        left = self._reception.drain(self._config.grace_s if grace_s is None else grace_s)
        self._reception.close()
        self._grpc.stop(_LAST_GRACE_S).wait()
        self._threads.shutdown(wait=False)
        return left

    def _listen(self, where: str) -> int:
        """Takes a port, for TLS or for plaintext; returns its number."""
        if self._credentials is None:
            return self._grpc.add_insecure_port(where)
        return self._grpc.add_secure_port(where, self._credentials)

    def _tell_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        """Sets the health of the server and of its services."""
        for name in _HEALTH_NAMES:
            self._health.set(name, status)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    """What gRPC is set to."""
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Without being asked to, two servers on one port would share its callers without a word.
        ("grpc.so_reuseport", int(config.share_port)),
        ("grpc.server.max_pending_requests", _MAX_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
    ]
