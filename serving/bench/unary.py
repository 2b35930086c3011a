"""Calls of `Classify`, each by itself, and none of them holding a thread while it waits.

A generator shares its machine with what it measures, so its calls have to be cheap. CPU time of the client for a call
with 32 under way, on two busy cores: threads that wait 106 us, callbacks on futures 80, asyncio 75, callbacks in two
processes 113. One caller: 121, 145 and 169. For arrivals at random a thread that sleeps is late by 0.08 ms, the median,
and an event loop by 0.72, since it rounds its timers to milliseconds. So: callbacks, in one process, about as cheap as
any for many callers, and in time. (`python -m benchmarks.callers`, grpcio 1.85, Python 3.11.)
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import grpc

from serving.bench.answers import OK
from serving.bench.payloads import Payload

# gRPC's code by name, the bytes of the reply if it is OK, and else the words of the error.
Done = Callable[[str, bytes | None, str], None]

_METHOD: Final = "/ledgate.v1.Classifier/Classify"


class Sender(Protocol):
    """What brings requests to a server."""

    def send(self, payload: Payload, done: Callable[[str, bytes | None, str], None]) -> None:
        """Sends a request and returns at once; `done` is called when it has ended, from any thread."""


class Unary:
    """Sends each request as a call of its own.

    Args:
        channel: To the server.
        metadata: Sent with each call.
        deadline_s: Of each call.
    """

    def __init__(self, channel: grpc.Channel, *, metadata: Sequence[tuple[str, str]], deadline_s: float) -> None:
        self._method: Any = channel.unary_unary(_METHOD)  # bytes in, bytes out
        self._metadata = tuple(metadata)
        self._deadline_s = deadline_s

    def send(self, payload: Payload, done: Done) -> None:
        """See `Sender`."""
        call = self._method.future(payload.content, timeout=self._deadline_s, metadata=self._metadata)
        call.add_done_callback(lambda ended: _tell(ended, done))


def _tell(call: Any, done: Done) -> None:
    """Says how a call ended."""
    if call.code() is grpc.StatusCode.OK:
        done(OK, call.result(), "")
    else:
        done(call.code().name, None, call.details() or "no details")
