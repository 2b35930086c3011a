"""A grpcio service that gives back what it gets: what a call costs that does nothing."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from benchmarks.serving.children import answer

METHOD: Final = "/echo.Echo/Echo"
THREADS: Final = 4  # carries more calls than 32


class _Everything(grpc.GenericRpcHandler):
    """One handler for every method, which never looks at the bytes."""

    def __init__(self) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: request)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ARG002
        """The handler."""
        return self._handler


def main() -> None:
    """Serves until it is ended."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((_Everything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    answer(lambda _: {}, {"address": f"127.0.0.1:{port}"})
    server.stop(None)


if __name__ == "__main__":
    main()
