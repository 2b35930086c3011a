"""The way to the one server that is loaded: an address, TLS, a token, and a connection that tries nothing twice."""

from dataclasses import dataclass
from typing import Any, Final

import grpc

from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.channels import metadata, read_addresses
from serving.modelinfo import ModelInfo
from serving.status import error_of
from serving.tls import Tls
from serving.unreachable import unreachable

_OPTIONS: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Every call is counted as it ended; gRPC would by itself make some of them again.
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, kw_only=True)
class Route:
    """How a server is reached.

    Attributes:
        address: `HOST:PORT`, of one server.
        tls: Whom to trust; None encrypts nothing.
        token: Sent with every call; None for none.
        token_in_plaintext: Whether to send it without encryption to another machine.

    Raises:
        InputError: What is no address or no token; or a token that would leave this machine for all to read.
    """

    address: str
    tls: Tls | None = None
    token: str | None = None
    token_in_plaintext: bool = False

    def __post_init__(self) -> None:
        read_addresses([self.address])
        _ = self.metadata  # refuses a token that others could read

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with every call."""
        return metadata([self.address], self.tls, self.token, in_plaintext=self.token_in_plaintext)

    def open(self) -> grpc.Channel:
        """A connection, to be closed.

        Raises:
            InputError: A file of TLS is not what it has to be.
        """
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        options: list[tuple[str, Any]] = [*_OPTIONS, *self.tls.options()]
        return grpc.secure_channel(self.address, self.tls.credentials(), options=options)

    def model(self, channel: grpc.Channel, name: str, *, timeout_s: float) -> ModelInfo:
        """What a model is.

        Raises:
            ServiceError: One of its classes, with the server's reason.
        """
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        request = classifier_pb2.GetModelRequest(model=name)
        try:
            return ModelInfo.read(stub.GetModel(request, timeout=timeout_s, metadata=self.metadata))
        except grpc.RpcError as error:
            call: Any = error  # an error of a call is the call too
            details = call.details() or "no details"
            nobody = unreachable(self.address, details, tls=self.tls is not None)
            raise nobody or error_of(call.code(), f"{self.address}: {details}") from None
