"""A grpcio service that gives back what it gets: what a call costs that does nothing, by the kind of server.

`python -m benchmarks.serving.echo KIND`: `threads-N`, `asyncio`, `uvloop`, or `deferred`, where gRPC's own thread
begins and ends a call, as that of our server begins it (`serving.callthreads`).
"""

import asyncio
import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from benchmarks.serving.children import answer
from serving.callthreads import CallThreads
from serving.deferred import Begun, Deferred

METHOD: Final = "/echo.Echo/Echo"
# Four threads carry more calls than 32.
THREADS: Final = "threads-4"
_UNBOUNDED: Final = [("grpc.max_receive_message_length", -1)]


class _Everything(grpc.GenericRpcHandler):
    """One handler for every method, which never looks at the bytes."""

    def __init__(self, behaviour: Any) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(behaviour)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ARG002
        """The handler."""
        return self._handler


def _at_once(request: bytes, _: Any) -> bytes:
    """The behaviour on a thread."""
    return request


async def _in_turn(request: bytes, _: Any) -> bytes:
    """The behaviour on an event loop."""
    return request


def _begin(request: bytes, _: Any) -> Begun[bytes]:
    """The behaviour without a thread."""
    return Begun(then=lambda finish: finish(), finish=lambda _: request)


def serve(threads: ThreadPoolExecutor, behaviour: Any) -> None:
    """Serves on threads until it is ended."""
    server = grpc.server(threads, handlers=[_Everything(behaviour)], options=_UNBOUNDED)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    _answer(port)
    server.stop(None)


async def serve_in_turn() -> None:
    """Serves on an event loop until it is ended."""
    server = grpc.aio.server(handlers=[_Everything(_in_turn)], options=_UNBOUNDED)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await asyncio.to_thread(_answer, port)
    await server.stop(None)


def _on_uvloop() -> None:
    """On uvloop's event loop."""
    importlib.import_module("uvloop").run(serve_in_turn())


def _answer(port: int) -> None:
    """Says that it is ready, and waits for the end."""
    answer(lambda _: {}, {"address": f"127.0.0.1:{port}"})


KINDS: Final[dict[str, Callable[[], None]]] = {
    **{f"threads-{n}": lambda n=n: serve(ThreadPoolExecutor(n), _at_once) for n in (1, 4, 32)},  # type: ignore[misc]
    "deferred": lambda: serve(CallThreads(4), Deferred(_begin, light=lambda _: True)),
    "asyncio": lambda: asyncio.run(serve_in_turn()),
    "uvloop": _on_uvloop,
}


if __name__ == "__main__":
    KINDS[sys.argv[1]]()
