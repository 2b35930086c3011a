"""Real servers that count the calls that reach them, whatever becomes of these."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from serving.config import ServerConfig
from serving.server import Server

CLASSIFY = "/ledgate.v1.Classifier/Classify"
GET_MODEL = "/ledgate.v1.Classifier/GetModel"


class Calls(grpc.ServerInterceptor):
    """Counts calls before their message is read, so also those that gRPC itself refuses."""

    def __init__(self) -> None:
        self._methods: list[str] = []
        self._condition = threading.Condition()

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        with self._condition:
            self._methods.append(handler_call_details.method)
            self._condition.notify_all()
        return continuation(handler_call_details)

    def count(self, method: str) -> int:
        """How many calls of a method there were."""
        return self._methods.count(method)

    def wait(self, method: str, count: int, patience_s: float) -> None:
        """Waits until there were so many."""
        with self._condition:
            assert self._condition.wait_for(lambda: self.count(method) >= count, patience_s)


@contextmanager
def counted(
    *detectors: Any, inside: Sequence[grpc.ServerInterceptor] = (), **config: Any
) -> Iterator[tuple[Server, Calls]]:
    """A server that listens; without detectors it is starting, and stays so until it is opened."""
    calls = Calls()
    with Server(ServerConfig(**{"port": 0, **config}), interceptors=[calls, *inside]) as server:
        server.start()
        if detectors:
            server.open(detectors)
        yield server, calls


def unused_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
