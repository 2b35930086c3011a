"""`ledgate serve --dry-run`: everything that could keep the server from starting, tried without starting it."""

import argparse
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detector.bundle import Bundle
from detector.errors import InputError, LedgateError, ServiceError, one_line
from protos.ledgate.v1 import classifier_pb2
from serving.auditstore import AuditStore
from serving.commands.running import opener_of
from serving.config import ServerConfig, address
from serving.hiding import check_hidden
from serving.models import check_names
from serving.offer import Offer
from serving.opening import Opener
from serving.operations import OperationsConfig
from serving.ports import check_free
from serving.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What.
        passed: Whether it is as it has to be.
        found: What was found, on one line.
    """

    name: str
    passed: bool
    found: str


def dry_run(
    options: argparse.Namespace, offers: Sequence[Offer], config: ServerConfig, operations: OperationsConfig
) -> int:
    """Tries everything, prints what was found, and returns 0.

    Raises:
        ServiceError: Not everything is as it has to be.
    """
    checks = [_try(name, attempt) for name, attempt in _attempts(options, offers, config, operations)]
    if options.json:
        print(json.dumps([asdict(check) for check in checks]))
    else:
        for check in checks:
            print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}")
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ServiceError(f"dry run: expected all {len(checks)} checks to pass, found that not: {', '.join(failed)}")
    return 0


def _attempts(
    options: argparse.Namespace, offers: Sequence[Offer], config: ServerConfig, operations: OperationsConfig
) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is tried, by name."""
    opener = opener_of(options, config)
    for offer in offers:
        yield f"bundle {offer}", partial(_bundle, opener, offer, config)
    if len(offers) > 1:
        yield "names", lambda: _names(offers)
    yield f"port {address(config.host, config.port)}", lambda: _port(config.host, config.port, shared=config.share_port)
    metrics_port = operations.metrics_port
    if metrics_port is not None:
        host = operations.metrics_host
        yield f"metrics port {address(host, metrics_port)}", lambda: _port(host, metrics_port)
    if operations.certificates is not None:
        yield "certificates", lambda: _certificates(operations)
    if operations.token_file is not None:
        yield f"tokens {operations.token_file}", lambda: _tokens(operations, config)
    if operations.audit is not None:
        yield f"audit {operations.audit.folder}", lambda: _audit(operations)
    score_log = operations.score_log
    if score_log is not None:
        yield f"score log {score_log}", lambda: _score_log(score_log)
    if operations.traces:
        yield "traces", _traces


def _try(name: str, attempt: Callable[[], str]) -> Check:
    """One attempt."""
    try:
        return Check(name=name, passed=True, found=attempt())
    except (LedgateError, OSError) as error:
        return Check(name=name, passed=False, found=one_line(error))


def _bundle(opener: Opener, offer: Offer, config: ServerConfig) -> str:
    """Opens a bundle as the server does: every digest is checked, the probes and the largest batch are run."""
    bundle = opener.read(offer.folder, offer.name)
    check_hidden(bundle, config.reply)
    _check_message(bundle, config.max_message_bytes)
    detector = opener.ready(bundle)
    flags = "not calibrated" if bundle.calibration is None else "calibrated, its probes reproduced"
    moved = "" if detector.deviation is None else f": {detector.deviation}"
    return f"{bundle.name}, {bundle.member_count} members on {detector.execution_path}, {flags}{moved}"


def _check_message(bundle: Bundle, limit: int) -> None:
    """Raises where not one image fits a message: as uint8, which takes the least but for files."""
    tensor = classifier_pb2.Tensor(
        dtype=classifier_pb2.UINT8, shape=[1, *bundle.input.shape], data=bytes(math.prod(bundle.input.shape))
    )
    least = classifier_pb2.ClassifyRequest(tensor=tensor).ByteSize()
    if least > limit:
        raise ServiceError(
            f"max_message_mb: expected room for one image, which takes {least} bytes, found {limit} bytes"
        )


def _names(offers: Sequence[Offer]) -> str:
    """Whether each bundle has a name of its own, by which it is asked for."""
    names = [offer.name for offer in offers]
    check_names(names)
    return ", ".join(names)


def _port(host: str, port: int, *, shared: bool = False) -> str:
    """Whether it is free."""
    check_free(host, port, shared=shared)
    return "free" if port else "any free one"


def _certificates(operations: OperationsConfig) -> str:
    """Reads them."""
    assert operations.certificates is not None
    operations.certificates.read()
    return ", ".join(map(str, operations.certificates.paths))


def _tokens(operations: OperationsConfig, config: ServerConfig) -> str:
    """Reads them."""
    assert operations.token_file is not None
    operations.check(config)
    return f"{len(Tokens(operations.token_file))} tokens"


def _audit(operations: OperationsConfig) -> str:
    """Opens the file; where there was none it is made."""
    assert operations.audit is not None
    store = AuditStore(operations.audit.folder, max_bytes=operations.audit.max_bytes)
    store.close()
    return str(store.path)


def _score_log(path: Path) -> str:
    """Looks whether the file can be written to or made, without making it: an empty one would look like a log."""
    try:
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
            return str(path)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
    except OSError as error:
        raise InputError(f"{path}: expected a file to write to, found: {error.strerror}") from None
    if not (stat.S_ISDIR(folder.stat().st_mode) and os.access(folder, os.W_OK | os.X_OK)):
        raise InputError(f"{path}: expected a file to write to, found no right to make one in {folder}")
    return f"{path}, which is not there yet"


def _traces() -> str:
    """Makes what sends them; whether somebody takes them is seen only later."""
    try:
        from serving.traces import Traces
    except ImportError as error:
        raise ServiceError(f"expected OpenTelemetry, found no {error.name}; pip install 'ledgate[traces]'") from None
    Traces().close()
    return "OpenTelemetry is there"
