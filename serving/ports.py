"""Whether a port can be listened on."""

import errno
import socket
from typing import Any

from detector.errors import ServiceError
from serving.config import address


def check_free(host: str, port: int, *, shared: bool = False) -> None:
    """Raises in one line where those who listen would write several to standard error, or a traceback.

    Args:
        host: Name or address.
        port: TCP port; 0 for whichever is free.
        shared: Those who share the port may be there already.

    Raises:
        ServiceError: The port is in use, or the host is not this machine.
    """
    where = address(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServiceError(f"{where}: expected a host of this machine, found none ({error.strerror})") from None
    failures = [failure for place in found if (failure := _bind(place, shared=shared)) is not None]
    for failure in failures:
        if failure.errno == errno.EADDRINUSE:
            raise ServiceError(f"{where}: expected a free port, found one in use")
    if len(failures) == len(found):  # a host may have addresses that this machine has not
        raise ServiceError(f"{where}: expected an address to listen on, found: {failures[0].strerror}")


def _bind(place: Any, *, shared: bool) -> OSError | None:
    """Tries one of the places that a name stands for; returns why not."""
    family, kind, protocol, _, target = place
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind(target)
    except OSError as error:
        return error
    return None
