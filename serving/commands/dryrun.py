"""`ledgate serve --dry-run`: everything that could keep the server from starting, tried without starting it."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from detector.errors import LedgateError, ServiceError, one_line
from serving.auditstore import AuditStore
from serving.commands.running import opener_of
from serving.config import ServerConfig, address
from serving.models import check_names
from serving.opening import Opener
from serving.operations import OperationsConfig
from serving.ports import check_free
from serving.scorelog import ScoreLog
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
    options: argparse.Namespace, bundles: Sequence[Path], config: ServerConfig, operations: OperationsConfig
) -> int:
    """Tries everything, prints what was found, and returns 0.

    Raises:
        ServiceError: Not everything is as it has to be.
    """
    checks = [_try(name, attempt) for name, attempt in _attempts(options, bundles, config, operations)]
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
    options: argparse.Namespace, bundles: Sequence[Path], config: ServerConfig, operations: OperationsConfig
) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is tried, by name."""
    opener = opener_of(options, config)
    for path in bundles:
        yield f"bundle {path}", partial(_bundle, opener, path)
    if len(bundles) > 1:
        yield "names", lambda: _names(bundles)
    yield f"port {address(config.host, config.port)}", lambda: _port(config.host, config.port, shared=config.share_port)
    metrics_port = operations.metrics_port
    if metrics_port is not None:
        host = operations.metrics_host
        yield f"metrics port {address(host, metrics_port)}", lambda: _port(host, metrics_port, taken=config.port)
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


def _bundle(opener: Opener, path: Path) -> str:
    """Opens a bundle as the server does: every digest is checked, the probes and the largest batch are run."""
    detector = opener.open(path)
    bundle = detector.bundle
    flags = "not calibrated" if bundle.calibration is None else "calibrated, its probes reproduced"
    moved = "" if detector.deviation is None else f": {detector.deviation}"
    return f"{bundle.name}, {bundle.member_count} members on {detector.execution_path}, {flags}{moved}"


def _names(bundles: Sequence[Path]) -> str:
    """Whether each bundle has a name of its own, by which it is asked for."""
    names = [path.resolve().name for path in bundles]
    check_names(names)
    return ", ".join(names)


def _port(host: str, port: int, *, taken: int = 0, shared: bool = False) -> str:
    """Whether it is free, and will be once the server has its own."""
    if port and port == taken:
        raise ServiceError(f"{address(host, port)}: expected another port than the server's, found the same")
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
    """Opens the file; where there was none it is made."""
    ScoreLog(path).close()
    return str(path)


def _traces() -> str:
    """Makes what sends them; whether somebody takes them is seen only later."""
    try:
        from serving.traces import Traces
    except ImportError as error:
        raise ServiceError(f"expected OpenTelemetry, found no {error.name}; pip install 'ledgate[traces]'") from None
    Traces().close()
    return "OpenTelemetry is there"
