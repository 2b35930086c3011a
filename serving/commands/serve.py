"""`ledgate serve`: bundles over gRPC, until SIGTERM or SIGINT; SIGHUP looks for new versions of them."""

import argparse
import gc
import json
import logging
import math
import signal
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from detector.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.config import ServerConfig
    from serving.detecting import Detecting
    from serving.offer import Offer
    from serving.operations import OperationsConfig
    from serving.server import Server

log = logging.getLogger("ledgate.serve")

# Most seconds that a signal goes unnoticed.
_LOOK_S: Final = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ledgate serve`."""
    from serving.commands.operating import add_operating
    from serving.commands.running import add_running
    from serving.config import Reply
    from serving.config import ServerConfig as Default
    from serving.offer import Offer
    from serving.settings import add_settings

    add = parser.add_argument
    add("bundles", metavar="BUNDLE", nargs="*", type=Offer.parse,
        help="folder to serve under its name, or NAME=FOLDER under another; the first by default; "
        "without any, the CIFAR-10 ensemble that comes with ledgate")  # fmt: skip
    add("--host", default=Default.host, help="address to listen on; beyond loopback, use TLS")
    add("--port", type=int, default=Default.port, help="TCP port; 0 picks a free one")
    add("--share-port", action=argparse.BooleanOptionalAction,
        help="let other servers with this option listen on the same port and share its callers")  # fmt: skip
    add_running(parser)
    add("--max-batch", type=int, default=Default.max_batch, metavar="IMAGES", help="most images in one run of a model")
    add("--batch-wait-ms", type=float, default=Default.batch_wait_s * 1000, metavar="MS",
        help="how long the first image of a batch waits for company")  # fmt: skip
    add("--max-queue", type=int, default=Default.max_queue, metavar="IMAGES",
        help="most images that wait for a model; a call beyond it is refused at once")  # fmt: skip
    add("--max-images", type=int, default=Default.max_images, metavar="IMAGES", help="most images of one call")
    add("--max-message-mb", type=float, default=Default.max_message_bytes / 2**20, metavar="MB",
        help="largest request, in units of 2**20 bytes")  # fmt: skip
    add("--max-pixels", type=int, default=Default.max_pixels, metavar="PIXELS",
        help="largest encoded image; a larger one is refused before it is decoded")  # fmt: skip
    add("--max-streams", type=int, default=Default.max_streams, metavar="STREAMS",
        help="most streams open at a time; beyond them, one that is idle gives way")  # fmt: skip
    add(
        "--allow-members",
        action=argparse.BooleanOptionalAction,
        help="answer with each member's probabilities where asked",
    )
    add("--reply", choices=[reply.value for reply in Reply], default=Default.reply.value,
        help="flag-only keeps scores and thresholds, which guide an attacker, to the server")  # fmt: skip
    add("--grace-s", type=float, default=Default.grace_s, metavar="S",
        help="on SIGTERM, most seconds to answer what has been accepted")  # fmt: skip
    add("--watch-s", type=float, default=Default.watch_s, metavar="S",
        help="look every so many seconds whether a bundle's folder has changed, and serve what is in it then; "
        "with 0 only SIGHUP does that")  # fmt: skip
    add("--log-level", choices=("debug", "info", "warning"), default="info", help="debug shows refused requests")
    add_operating(parser)
    add("--json", action="store_true", help="say that the server is ready as one JSON object")
    add("--dry-run", action="store_true", help="try the bundles, ports and files, say what was found, and end")
    add_settings(parser, but=("json", "dry_run"))  # the last: it sees what has been added before it


def run(options: argparse.Namespace) -> int:
    """Serves until a signal; 0 once everything accepted has been answered."""
    # It asks for a reload: it must not end a server that has only begun to start, as it does by default.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from detector.shipped import shipped_bundle
    from serving.commands.operating import operations_config
    from serving.commands.running import opener_of
    from serving.logs import LogFormat, configure_logging
    from serving.offer import Offer
    from serving.operations import Operations
    from serving.reload import Reloader
    from serving.scheduling import interrupt_less
    from serving.server import Server
    from serving.settings import settle, unknown_variables
    from serving.trimming import Trimming

    options = settle(options)
    config = _config(options)
    operating = operations_config(options)
    operating.check_ports(config)
    offers = options.bundles or [Offer.of(shipped_bundle())]
    configure_logging("warning" if options.dry_run else options.log_level, LogFormat(options.log_format))
    for unknown in unknown_variables(options):
        log.warning("%s", unknown)
    if options.dry_run:
        return _dry_run(options, offers, config, operating)
    operating.warn(config)
    interrupt_less()  # before any thread of gRPC begins
    with (
        Operations(operating, config) as operations,
        Server(config, models=len(offers), **operations.for_server()) as server,
    ):
        server.start()
        operations.start(server)
        opener = opener_of(options, config)
        folders = [offer.folder for offer in offers]
        reloader = Reloader(folders, opener, served=lambda: server.models, serve=server.replace, watch_s=config.watch_s)
        signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
        server.open([opener.open(offer.folder, offer.name) for offer in offers])
        with reloader, Trimming():
            stopping = _signals()
            # What there is by now stays: to look through it for garbage again and again stops all calls meanwhile.
            gc.collect()
            gc.freeze()
            print(_ready(server, operations.metrics_address, as_json=options.json), flush=True)
            log.info("%s: draining", signal.Signals(_next(stopping)).name)
        left = server.stop()
    if left:
        raise ServiceError(f"stop: expected all calls answered within {config.grace_s:g} s, found {left} that were not")
    return 0


def _config(options: argparse.Namespace) -> "ServerConfig":
    """The options, checked."""
    from detector.errors import SettingError
    from serving.config import MAX_WAIT_S, Reply, ServerConfig

    if options.threads is not None and options.threads < 1:
        raise SettingError(f"threads: expected at least 1, found {options.threads}")
    if not 1 <= options.max_message_mb * 2**20 < 2**31:  # NaN fails both
        raise SettingError(f"max_message_mb: expected more than 0 and less than 2048, found {options.max_message_mb}")
    if not 0 <= options.batch_wait_ms <= MAX_WAIT_S * 1000:
        raise SettingError(f"batch_wait_ms: expected 0 to {MAX_WAIT_S * 1000:.0f}, found {options.batch_wait_ms}")
    return ServerConfig(
        host=options.host,
        port=options.port,
        share_port=bool(options.share_port),
        max_batch=options.max_batch,
        batch_wait_s=options.batch_wait_ms / 1000,
        max_queue=options.max_queue,
        max_images=options.max_images,
        max_message_bytes=int(options.max_message_mb * 2**20),
        max_pixels=options.max_pixels,
        max_streams=options.max_streams,
        allow_members=bool(options.allow_members),
        reply=Reply(options.reply),
        grace_s=options.grace_s,
        watch_s=options.watch_s,
    )


def _dry_run(
    options: argparse.Namespace, offers: "Sequence[Offer]", config: "ServerConfig", operating: "OperationsConfig"
) -> int:
    """Tries what would be served, without serving it."""
    from serving.commands.dryrun import dry_run

    return dry_run(options, offers, config, operating)


def _signals() -> "SimpleQueue[int]":
    """A queue that gets a number with every SIGTERM and SIGINT; its put may interrupt its own get."""
    arrived: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: arrived.put(received))
    return arrived


def _next(arrived: "SimpleQueue[int]") -> int:
    """Waits for a signal that ends the server.

    Looks up now and then: Python runs a handler only between two steps of its own, so that a signal that comes just
    before a wait begins is noticed when that wait ends.
    """
    while True:
        with suppress(Empty):
            return arrived.get(timeout=_LOOK_S)


def _ready(server: "Server", metrics: str | None, *, as_json: bool) -> str:
    """The line that says that the server is ready."""
    address, detectors = server.address, [model.detector for model in server.models]
    path = detectors[0].execution_path
    if as_json:
        ready = {
            "address": address,
            "models": [_facts(d) for d in detectors],
            "provider": path.provider,
            "dtype": path.dtype,
        }
        return json.dumps(ready if metrics is None else {**ready, "metrics": metrics})
    models = ", ".join(_sentence(detector) for detector in detectors)
    watched = "" if metrics is None else f", metrics on {metrics}"
    return f"serving {models} on {address}, {path}{watched}"


def _facts(detector: "Detecting") -> dict[str, Any]:
    """A model, for another program. Minus infinity, a threshold that flags nothing, is a string in JSON."""
    bundle = detector.bundle
    calibration = bundle.calibration
    threshold = None if calibration is None else calibration.threshold
    thresholds = None if calibration is None else calibration.thresholds
    return {
        "name": bundle.name,
        "members": bundle.member_count,
        "classes": bundle.class_count,
        "bundle_digest": bundle.digest,
        "calibration_digest": None if calibration is None else calibration.digest,
        "score": None if calibration is None else calibration.score,
        "threshold": None if threshold is None else _number(threshold),
        "thresholds": None if thresholds is None else [_number(value) for value in thresholds],
    }


def _number(value: float) -> float | str:
    """A number as JSON, which has none for infinity."""
    return value if math.isfinite(value) else str(value).replace("inf", "Infinity")


def _sentence(detector: "Detecting") -> str:
    """A model, for a person."""
    bundle = detector.bundle
    calibration = bundle.calibration
    flag = "not calibrated" if calibration is None else f"threshold {calibration.limit:.3f}"
    return f"{bundle.name} ({bundle.member_count} members, {bundle.class_count} classes, {flag})"
