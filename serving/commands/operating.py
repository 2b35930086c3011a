"""The options of `ledgate serve` for whoever operates it: metrics, traces, TLS, tokens, and what is written down."""

import argparse
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.operations import OperationsConfig

# The options that need no import of what they configure; a test holds these to it.
_METRICS_HOST = "127.0.0.1"
_AUDIT_MB = 1024.0


def add_operating(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add = parser.add_argument
    add("--metrics-port", type=int, metavar="PORT", help="TCP port for Prometheus, over HTTP; 0 picks a free one; "
        "none without this option")  # fmt: skip
    add("--metrics-host", default=_METRICS_HOST, metavar="HOST", help="address to listen on for Prometheus")
    add("--traces", action=BooleanOptionalAction, help="send traces where OpenTelemetry's own variables say, such as "
        "OTEL_EXPORTER_OTLP_ENDPOINT; needs the extra 'traces'")  # fmt: skip
    add("--tls-cert", type=Path, metavar="FILE", help="the server's certificate and those behind it, PEM; read again "
        "when it changes")  # fmt: skip
    add("--tls-key", type=Path, metavar="FILE", help="its private key, PEM, without a password")
    add("--tls-client-ca", type=Path, metavar="FILE", help="serve only clients whose certificates lead to these, PEM")
    add("--token-file", type=Path, metavar="FILE", help="serve only callers with a token of this file: one a line, and "
        "after it perhaps a name; read again when it changes; health stays open")  # fmt: skip
    add("--token-in-plaintext", action=BooleanOptionalAction, help="take tokens without TLS from other machines too, "
        "where a proxy encrypts")  # fmt: skip
    add("--access-log", action=BooleanOptionalAction, help="a line of the log for each answer, without scores")
    add("--log-format", choices=("text", "json"), default="text", help="json: an object a line")
    add("--audit", type=Path, metavar="DIR", help="keep flagged inputs in DIR/audit.sqlite")
    add("--audit-rate", type=float, default=1.0, metavar="SHARE", help="share of the flagged inputs to keep, above 0 "
        "and up to 1")  # fmt: skip
    add("--audit-max-mb", type=float, default=_AUDIT_MB, metavar="MB", help="largest size of that file, in units of "
        "2**20 bytes; the oldest inputs go first")  # fmt: skip
    add("--score-log", type=Path, metavar="FILE", help="write the score of every answered image there, a line of JSON "
        "each, without the image: for ledgate check --scores")  # fmt: skip


def operations_config(options: argparse.Namespace) -> "OperationsConfig":
    """The options, checked.

    Raises:
        InputError: What does not fit together, or is out of range.
    """
    from detector.errors import SettingError
    from serving.audit import AuditConfig
    from serving.auditstore import MIN_BYTES
    from serving.certificates import Certificates
    from serving.operations import OperationsConfig

    cert, key, client_ca = options.tls_cert, options.tls_key, options.tls_client_ca
    if (cert is None) is not (key is None) or (client_ca is not None and cert is None):
        lacking = "tls_cert" if cert is None else "tls_key"
        raise SettingError(f"{lacking}: expected a file beside the other options of TLS, found none")
    if not MIN_BYTES <= options.audit_max_mb * 2**20 < 2**60:  # NaN fails both
        raise SettingError(f"audit_max_mb: expected at least {MIN_BYTES / 2**20:g}, found {options.audit_max_mb}")
    audit = None
    if options.audit is not None:
        max_bytes = int(options.audit_max_mb * 2**20)
        audit = AuditConfig(folder=options.audit, rate=options.audit_rate, max_bytes=max_bytes)
    return OperationsConfig(
        metrics_host=options.metrics_host,
        metrics_port=options.metrics_port,
        certificates=None if cert is None else Certificates(cert=cert, key=key, client_ca=client_ca),
        token_file=options.token_file,
        token_in_plaintext=bool(options.token_in_plaintext),
        access_log=bool(options.access_log),
        audit=audit,
        score_log=options.score_log,
        traces=bool(options.traces),
    )
