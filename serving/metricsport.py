"""The port on which Prometheus asks: plain HTTP, on its own, so that it need not be open to callers."""

from prometheus_client import CollectorRegistry, start_http_server

from serving.closing import Closing
from serving.config import address
from serving.ports import check_free


class MetricsPort(Closing):
    """Answers scrapes from its making until `close`.

    Args:
        registry: What a scrape reads.
        host: Name or address to listen on.
        port: TCP port; 0 picks a free one.

    Attributes:
        address: Host and port.

    Raises:
        ServiceError: The address cannot be listened on.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        check_free(host, port)
        self._server, self._thread = start_http_server(port, host, registry)
        self.address = address(host, self._server.server_port)

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
