"""What both clients are: whom they ask, with what, how often, and what they know. They differ in how they wait."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from detector.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    LedgateError,
    QueueFull,
    ResourceExhausted,
    SettingError,
    Unavailable,
)
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.attempts import Attempts
from serving.channels import metadata, open_channels, read_addresses
from serving.deadline import Deadline, check_timeout
from serving.modelinfo import ModelInfo
from serving.parcels import Parcel, cut
from serving.parts import Parts
from serving.pool import Pool
from serving.retry import DEFAULT_RETRY, Budget, Retry
from serving.tls import Tls

# Of a large array: enough for a server to have the next part when it has answered one.
_IN_FLIGHT: Final = 4
# For whoever waits until a server is ready: as often as it takes.
_PATIENT: Final = Retry(attempts=1 << 62, initial_s=0.1, max_s=0.1, budget=None)


class BaseClient:
    """A client without its transport.

    Args:
        addresses: `HOST:PORT`, one or several, as a sequence or as one text with commas. Calls go to all servers that
            can take them, which are taken to serve the same models with the same limits. A name with several addresses
            in DNS is several servers too.
        timeout_s: For every call that names none of its own; None waits for ever.
        retry: How often a call that no server could take is made again.
        in_flight: Most parts of one large array that are under way at a time.
        tls: Whom to trust; None encrypts nothing.
        token: Sent with every call, for servers that ask for one.
        token_in_plaintext: Whether to send it without encryption to another machine, where something between, a proxy
            for example, encrypts.

    Raises:
        InputError: An address, a number, a token or files that are none; or a token that would leave this machine for
            all to read.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        timeout_s: float | None = None,
        retry: Retry = DEFAULT_RETRY,
        in_flight: int = _IN_FLIGHT,
        tls: Tls | None = None,
        token: str | None = None,
        token_in_plaintext: bool = False,
    ) -> None:
        check_timeout(timeout_s)
        if in_flight < 1:
            raise SettingError(f"in_flight: expected at least 1, found {in_flight}")
        self._addresses = read_addresses(addresses)
        self._metadata = metadata(self._addresses, tls, token, in_plaintext=token_in_plaintext)
        self._timeout_s = timeout_s
        self._retry = retry
        self._in_flight = in_flight
        self._credentials = None if tls is None else tls.credentials()
        self._options = [] if tls is None else tls.options()
        self._budget = Budget(retry)
        self._pool = Pool(len(self._addresses))
        self._models: dict[str, ModelInfo] = {}
        self._channels: list[Any] = []
        self._stubs: list[Any] = []
        self._is_closed = False
        self._begin()

    def _begin(self) -> None:
        """For a transport that opens its channels as soon as they are known."""

    def _open(self, library: Any) -> None:
        """Opens channels of `grpc` or `grpc.aio` to all servers."""
        self._channels = open_channels(library, self._addresses, self._credentials, self._options)
        self._stubs = [classifier_pb2_grpc.ClassifierStub(one) for one in self._channels]  # type: ignore[no-untyped-call]

    def _deadline(self, timeout_s: float | None) -> Deadline:
        """That of one call."""
        return Deadline(self._timeout_s if timeout_s is None else timeout_s)

    def _attempts(self, deadline: Deadline, **options: Any) -> Attempts:
        """Those of one call."""
        known = {"retry": self._retry, "budget": self._budget, "tls": self._credentials is not None}
        return Attempts(self._addresses, self._pool, deadline=deadline, **{**known, **options})

    def _part_attempts(self, deadline: Deadline, parts: Parts, parcel: Parcel) -> Attempts:
        """Those of a part of a large array, which goes back to the others where a queue has no room for it."""
        return self._attempts(deadline, first=parts.first, hand_over=partial(parts.give_back, parcel))

    def _patient_attempts(self, deadline: Deadline) -> Attempts:
        """Those of whoever waits until a server is ready."""
        return self._attempts(deadline, retry=_PATIENT, budget=Budget(_PATIENT))

    def _parts(self, images: Any, template: classifier_pb2.ClassifyRequest, info: ModelInfo) -> Parts:
        """Images cut into what a server takes."""
        limits = {"max_images": info.max_images, "max_message_bytes": info.max_message_bytes}
        return Parts(partial(cut, images, template, **limits))

    def _refused(self, error: LedgateError, parcel: Parcel) -> LedgateError:
        """The error of a part, as that of the whole; a server may have other limits than when it was asked."""
        if isinstance(error, InputError) or (isinstance(error, ResourceExhausted) and not isinstance(error, QueueFull)):
            self._models.pop(parcel.request.model, None)
        if isinstance(error, InputError) and parcel.start > 0:
            return InputError(f"images from {parcel.start} on: {error}")
        return error

    def _never_ready(self, timeout_s: float, found: LedgateError) -> DeadlineExceeded:
        """What whoever waited for a server is told."""
        return DeadlineExceeded(
            f"{', '.join(self._addresses)}: expected a server that is ready within {timeout_s:g} s, found: {found}"
        )

    def _closed(self) -> LedgateError:
        """What whoever uses a closed client is told."""
        return Unavailable(f"{', '.join(self._addresses)}: expected an open client, found a closed one")

    def _ended(self) -> LedgateError:
        """What whoever waits when the client is closed is told."""
        return Cancelled("the client was closed before the answer came")


def request_template(*, model: str, members: bool, request_id: str) -> classifier_pb2.ClassifyRequest:
    """A request without images."""
    return classifier_pb2.ClassifyRequest(model=model, request_id=request_id, return_member_probabilities=members)
