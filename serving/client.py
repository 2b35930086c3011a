"""A client: the same verdicts as from an embedded detector, and the same errors.

The stubs of health and reflection are not imported here, so that this client lives beside others in
one process.
"""

import math
import time
from typing import Any, Final, TypeVar

import grpc

from detector.errors import DeadlineExceeded, InputError, LedgateError, Unavailable
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.closing import Closing
from serving.loopback import is_loopback
from serving.modelinfo import ModelInfo
from serving.parcels import Parcel, cut
from serving.reading import read_reply
from serving.status import error_of
from serving.tls import Tls
from serving.tokens import header

T = TypeVar("T")

_OPTIONS: Final = [
    # The server bounds requests and says how; a reply has the size that its request asked for.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is just starting is found soon; gRPC would wait up to two minutes between tries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
# How gRPC's own words begin where there is no server to speak.
_NOBODY: Final = ("failed to connect", "errors resolving", "DNS resolution failed")
# Between two questions whether a server that answers is ready.
_POLL_S: Final = 0.05


class Client(Closing):
    """A connection to a server, to be closed; it may be shared between threads.

    Args:
        address: `HOST:PORT`.
        timeout_s: For every call that names none of its own; None waits for ever.
        tls: Whom to trust; None encrypts nothing.
        token: Sent with every call, for a server that asks for one.
        token_in_plaintext: Whether to send it without encryption to another machine, where
            something between, a proxy for example, encrypts.

    Raises:
        InputError: An address, a token or files that are none; or a token that would leave this
            machine for all to read.

    Example:
        with Client("localhost:50051") as client:
            verdicts = client.classify(images, timeout_s=1.0)
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float | None = None,
        tls: Tls | None = None,
        token: str | None = None,
        token_in_plaintext: bool = False,
    ) -> None:
        _check_timeout(timeout_s)
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or "/" in address:
            raise InputError(f"address: expected HOST:PORT, found '{address}'")
        if token is not None and tls is None and not token_in_plaintext and not is_loopback(host.strip("[]")):
            raise InputError(f"token: expected TLS on the way to {address}, found none; anybody could read the token")
        self._address = address
        self._timeout_s = timeout_s
        self._metadata = () if token is None else (header(token),)
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), options=[*_OPTIONS, *tls.options()])
        self._stub = classifier_pb2_grpc.ClassifierStub(self._channel)  # type: ignore[no-untyped-call]
        self._models: dict[str, ModelInfo] = {}

    def close(self) -> None:
        """Closes the connection; calls under way end as cancelled."""
        self._channel.close()

    def classify(
        self,
        images: Any,
        *,
        model: str = "",
        timeout_s: float | None = None,
        members: bool = False,
        request_id: str = "",
    ) -> Verdicts:
        """Classifies images and says which look adversarial.

        What is too large for one call is sent in several, one after the other.

        Args:
            images: (N, C, H, W), or (C, H, W) for one, uint8 or float32 in [0, 1]; or a list of PNG
                or JPEG files as bytes.
            model: Name of a model; by default the server's default.
            timeout_s: For all images together; by default the client's.
            members: Whether to return each member's probabilities too.
            request_id: A name for the server's log.

        Returns:
            N verdicts. What the server hides is None.

        Raises:
            InputError: Images that do not fit the model.
            ServiceError: One of its classes, with the server's reason.
        """
        template = classifier_pb2.ClassifyRequest(
            model=model, request_id=request_id, return_member_probabilities=members
        )
        deadline = _Deadline(self._timeout_s if timeout_s is None else timeout_s)
        if model not in self._models:
            self._models[model] = self._describe(model, deadline)
        info = self._models[model]
        parcels = cut(images, template, max_images=info.max_images, max_message_bytes=info.max_message_bytes)
        return Verdicts.concatenate([self._send(parcel, deadline) for parcel in parcels])

    def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Asks what a model is.

        Args:
            name: Of the model; by default the server's default.
            timeout_s: By default the client's.

        Raises:
            NotFound: There is no such model.
            ServiceError: One of its classes, with the server's reason.
        """
        return self._describe(name, _Deadline(self._timeout_s if timeout_s is None else timeout_s))

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the server answers calls.

        Raises:
            DeadlineExceeded: It does not in that time; the message says what was found last.
        """
        deadline = _Deadline(timeout_s)
        found = "no answer"
        while True:
            try:
                self._call(self._stub.GetModel, classifier_pb2.GetModelRequest(), deadline, wait_for_ready=True)
            except Unavailable as error:
                found = str(error)
            except DeadlineExceeded:
                raise DeadlineExceeded(
                    f"{self._address}: expected a server that is ready within {timeout_s:g} s, found: {found}"
                ) from None
            else:
                return
            time.sleep(_POLL_S)

    def _describe(self, name: str, deadline: "_Deadline") -> ModelInfo:
        """Asks for a model's description."""
        return ModelInfo.read(self._call(self._stub.GetModel, classifier_pb2.GetModelRequest(model=name), deadline))

    def _send(self, parcel: Parcel, deadline: "_Deadline") -> Verdicts:
        """Sends one request and reads its reply."""
        try:
            reply = self._call(self._stub.Classify, parcel.request, deadline)
        except InputError as error:
            if parcel.start == 0:
                raise
            raise InputError(f"images from {parcel.start} on: {error}") from None
        return read_reply(reply, parcel.count)

    def _call(self, method: Any, request: Any, deadline: "_Deadline", *, wait_for_ready: bool = False) -> Any:
        """One call; a status becomes the error it stands for."""
        remaining_s = deadline.remaining_s()
        try:
            return method(request, timeout=remaining_s, metadata=self._metadata, wait_for_ready=wait_for_ready)
        except grpc.RpcError as error:
            raise self._error(error) from None
        except ValueError:  # what gRPC raises on a closed channel
            raise Unavailable(f"{self._address}: expected an open client, found a closed one") from None

    def _error(self, error: Any) -> LedgateError:
        """Turns the error of a call, which is the call too, into ours, with the server's words."""
        details = error.details() or "no details"
        if error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_NOBODY):
            return Unavailable(f"{self._address}: expected a server, found nobody who answers ({details})")
        return error_of(error.code(), details)


class _Deadline:
    """A point in time, or none, shared by the calls that one answer takes."""

    def __init__(self, timeout_s: float | None) -> None:
        _check_timeout(timeout_s)
        self._at_s = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left; raises where there are none."""
        if self._at_s is None:
            return None
        left_s = self._at_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed before all images were sent")
        return left_s


def _check_timeout(timeout_s: float | None) -> None:
    """Raises unless it is None or a positive number, and not infinity, for which there is None."""
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise InputError(f"timeout_s: expected a positive number of seconds, found {timeout_s}")
