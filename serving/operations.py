"""What an operator adds to a server: metrics, traces, TLS, tokens, and what is written down.

Each is a file of its own and off by default. This one checks that they fit together, and gives the
server what it takes: watchers, interceptors and credentials.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict

import grpc

from detector.errors import SettingError
from serving.audit import Audit, AuditConfig
from serving.calls import Calls, Observer
from serving.certificates import Certificates
from serving.closing import Closing
from serving.config import MAX_PORT, ServerConfig
from serving.logs import log_access
from serving.loopback import is_loopback
from serving.metrics import Metrics
from serving.metricsport import MetricsPort
from serving.scorelog import ScoreLog
from serving.server import Server
from serving.tokens import Tokens
from serving.watching import Watcher

log = logging.getLogger(__name__)

# Names for all of a machine's addresses.
_EVERY_HOST: Final = frozenset(("0.0.0.0", "::", "[::]"))  # noqa: S104  they are compared, not listened on


@dataclass(frozen=True, kw_only=True)
class OperationsConfig:
    """What is added.

    Attributes:
        metrics_host: Name or address to listen on for Prometheus.
        metrics_port: TCP port for it; 0 picks a free one, None listens on none.
        certificates: For TLS; None speaks plaintext.
        token_file: Whose tokens callers need; None lets everybody in.
        token_in_plaintext: Whether tokens may come without TLS from other machines.
        access_log: Whether each answer is a line of the log.
        audit: What is kept of flagged inputs; None keeps nothing.
        score_log: The file that gets the score of every answered image; None writes none.
        traces: Whether calls are traced, see `serving.traces`.

    Raises:
        InputError: A number out of range.
    """

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    certificates: Certificates | None = None
    token_file: Path | None = None
    token_in_plaintext: bool = False
    access_log: bool = False
    audit: AuditConfig | None = None
    score_log: Path | None = None
    traces: bool = False

    def __post_init__(self) -> None:
        if self.metrics_port is not None and not 0 <= self.metrics_port <= MAX_PORT:
            raise SettingError(f"metrics_port: expected 0 to {MAX_PORT}, found {self.metrics_port}")
        if not self.metrics_host:
            raise SettingError("metrics_host: expected a name or an address, found nothing")

    def warn(self, server: ServerConfig) -> None:
        """Writes to the log what others could read or change."""
        if self.certificates is None and not server.loopback:
            log.warning(
                "listening on %s without encryption: anybody on the way can read and change messages", server.host
            )
        if self.metrics_port is not None and not is_loopback(self.metrics_host):
            log.warning("metrics on %s: anybody who reaches it can read how scores are spread", self.metrics_host)

    def check_ports(self, server: ServerConfig) -> None:
        """Raises InputError where metrics would be answered on the port of the server's callers."""
        hosts = {"127.0.0.1" if host == "localhost" else host for host in (server.host, self.metrics_host)}
        if self.metrics_port and self.metrics_port == server.port and (len(hosts) == 1 or hosts & _EVERY_HOST):
            raise SettingError(f"metrics_port: expected another port than the server's, found {server.port} for both")

    def check(self, server: ServerConfig) -> None:
        """Raises InputError where tokens would come in for all on the way to read."""
        if self.token_file and not (self.certificates or server.loopback or self.token_in_plaintext):
            raise SettingError(
                f"token_file: expected TLS on {server.host}, found none; anybody on the way could read the tokens "
                "(token_in_plaintext allows it, for a proxy that encrypts)"
            )


class ForServer(TypedDict):
    """Arguments of `Server`."""

    watchers: Sequence[Watcher]
    interceptors: Sequence[grpc.ServerInterceptor]
    credentials: grpc.ServerCredentials | None


class Operations(Closing):
    """What is added to one server, from its making until `close`.

    Args:
        config: What.
        server: How the server runs.

    Attributes:
        metrics: None without a port for them.
        metrics_address: Host and port, once it has started.

    Raises:
        LedgateError: A file, a folder or a port that cannot be used, or tokens in plaintext.
        ImportError: OpenTelemetry is not installed.
    """

    def __init__(self, config: OperationsConfig, server: ServerConfig) -> None:
        config.check(server)
        self._config = config
        self._closing = ExitStack()
        self.metrics = None if config.metrics_port is None else Metrics()
        self.metrics_address: str | None = None
        self._credentials = None if config.certificates is None else config.certificates.credentials()
        tokens = None if config.token_file is None else Tokens(config.token_file)
        observers: list[Observer] = []
        self._watchers: list[Watcher] = []
        if self.metrics is not None:
            observers.append(self.metrics.answered)
            self._watchers.append(self.metrics.ran)
        if config.access_log:
            observers.append(log_access)
        self._interceptors: list[grpc.ServerInterceptor] = []
        if config.traces:
            from serving.traces import Traces

            traces = self._closing.enter_context(Traces())
            self._interceptors.append(traces.interceptor)  # around the other, so that refusals are traced too
            self._watchers.append(traces.ran)
        # So that a line of the log and a row of the trail can be told whose they are.
        naming = config.access_log or config.audit is not None
        if observers or naming or tokens is not None:
            self._interceptors.append(Calls(observers, tokens=tokens, naming=naming))
        if config.audit is not None:
            audit = self._closing.enter_context(Audit(config.audit))
            self._watchers.append(audit.ran)
            if self.metrics is not None:
                self.metrics.audit = audit
        if config.score_log is not None:
            self._watchers.append(self._closing.enter_context(ScoreLog(config.score_log)).ran)

    def for_server(self) -> ForServer:
        """The arguments of the server that are about what is added."""
        return {"watchers": self._watchers, "interceptors": self._interceptors, "credentials": self._credentials}

    def start(self, server: Server) -> None:
        """Answers Prometheus, about the models of this server.

        Raises:
            ServiceError: The port cannot be listened on.
        """
        if self.metrics is None:
            return
        assert self._config.metrics_port is not None
        self.metrics.watch(lambda: server.models)
        port = MetricsPort(self.metrics.registry, host=self._config.metrics_host, port=self._config.metrics_port)
        self.metrics_address = self._closing.enter_context(port).address

    def close(self) -> None:
        """Writes what is still to be written, and gives the port back."""
        self._closing.close()
