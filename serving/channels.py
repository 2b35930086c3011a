"""The way to servers: addresses, gRPC's channels to them, and what is sent along with every call."""

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final

import grpc

from detector.errors import SettingError
from protos.ledgate.v1 import classifier_pb2
from serving.loopback import is_loopback
from serving.tls import Tls
from serving.tokens import header

_OPTIONS: Final = [
    # The server bounds requests and says how; a reply has the size that its request asked for.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that is just starting is found soon; gRPC would wait up to two minutes between tries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Each client has a connection of its own, though others in this process go to the same server: a server shares
    # itself among connections.
    ("grpc.use_local_subchannel_pool", 1),
]
# A name may stand for several servers, which gRPC finds again when they move. Calls go to each in turn; those whose
# health is not SERVING, as while they drain, are left out. gRPC asks for it by itself, without the stubs of health.
_SEVERAL: Final = (
    "grpc.service_config",
    json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name},
        }
    ),
)


def read_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """Addresses, one or several, from a sequence or a text with commas.

    Raises:
        InputError: One is not `HOST:PORT`, two are the same, or there is none.
    """
    found = [one.strip() for one in addresses.split(",")] if isinstance(addresses, str) else list(addresses)
    if not found:
        raise SettingError("address: expected HOST:PORT, found none")
    for one in found:
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit() or "/" in one:
            raise SettingError(f"address: expected HOST:PORT, found '{one}'")
        if found.count(one) > 1:
            raise SettingError(f"address: expected each once, found '{one}' {found.count(one)} times")
    return tuple(found)


def open_channels(
    library: Any,
    addresses: Sequence[str],
    credentials: grpc.ChannelCredentials | None,
    options: Sequence[tuple[str, Any]],
) -> list[Any]:
    """A channel to each address.

    Args:
        library: `grpc` or `grpc.aio`.
        addresses: From `read_addresses`.
        credentials: For TLS; None encrypts nothing.
        options: Of all channels, beside our own.
    """
    channels = []
    for address in addresses:
        several = [_SEVERAL] if _may_be_several(address) else []
        own = [*_OPTIONS, *several, *options]
        if credentials is None:
            channels.append(library.insecure_channel(address, options=own))
        else:
            channels.append(library.secure_channel(address, credentials, options=own))
    return channels


def metadata(
    addresses: Sequence[str], tls: Tls | None, token: str | None, *, in_plaintext: bool
) -> tuple[tuple[str, str], ...]:
    """What is sent along with every call.

    Raises:
        InputError: What is no token; or one that would leave this machine for all to read.
    """
    if token is None:
        return ()
    for one in addresses:
        if tls is None and not in_plaintext and not is_loopback(_host(one)):
            raise SettingError(f"token: expected TLS on the way to {one}, found none; anybody could read the token")
    return (header(token),)


def is_name(address: str) -> bool:
    """Whether an address has a name for its host, and no number."""
    try:
        ipaddress.ip_address(_host(address))
    except ValueError:
        return True
    return False


def _may_be_several(address: str) -> bool:
    """Whether an address may stand for several servers: its host is neither a number nor this machine."""
    return is_name(address) and not is_loopback(_host(address))


def _host(address: str) -> str:
    """Of an address; an IPv6 address without its brackets."""
    return address.rpartition(":")[0].strip("[]")
