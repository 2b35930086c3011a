"""`ledgate bench`: load for a running server, and how it bore it."""

import argparse
import json
import math
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ledgate.connection import CONNECTION, add_connection, tls_of

if TYPE_CHECKING:
    from serving.bench.answers import Answers
    from serving.bench.load import Load, Plan
    from serving.bench.outcome import Outcome
    from serving.bench.payloads import Payloads
    from serving.bench.route import Route
    from serving.bench.unary import Sender
    from serving.modelinfo import ModelInfo

_DESCRIPTION: Final = (
    "load a running server, and say what it answers a second, after how long, and with which errors. Each call is "
    "counted once, as it ended: nothing is tried again. Ctrl-C ends the run and prints what was measured until then."
)
# What is over sooner needs no bar.
_BAR_S: Final = 2.0
_INTERRUPTED: Final = 130
# A call that passes its deadline is told so by gRPC, and not by whoever waits.
_MARGIN_S: Final = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = _DESCRIPTION
    add = parser.add_argument
    add("address", metavar="HOST:PORT", help="of the server")
    _add_load(parser)
    _add_requests(parser)
    add_connection(parser)
    add("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Measures, and prints what came of it."""
    from detector.errors import Internal, ServiceError
    from detector.shares import Shares
    from serving.bench.answers import MALFORMED
    from serving.bench.loop import Run
    from serving.bench.report import explanation, table, warnings

    load, plan = _load(options), _plan(options)
    route = _route(options)
    with closing(route.open()) as channel:
        info = route.model(channel, options.model, timeout_s=options.deadline_s)
        payloads = _payloads(options, info)
        sender, answers = _sender(options, channel, route, info)
        with Shares(1, "measuring", shown=plan.calls is not None or plan.end_s > _BAR_S) as bar:
            running = Run(
                sender, payloads, answers, plan, patience_s=options.deadline_s + _MARGIN_S, progress=bar.part(1)
            )
            outcome = running.measure(load)
    warned = warnings(outcome, load, held=running.held, behind=running.behind)
    if options.json:
        settings = _settings(options, load, payloads, route)
        found = {"address": options.address, "model": _described(info), "settings": settings, **outcome.summary()}
        print(json.dumps({**found, "latency_is": load.meaning, "warnings": warned}))
    else:
        print(_headline(options, info, load, outcome), table(outcome, load), explanation(outcome, load), sep="\n\n")
    for line in warned:
        print(f"ledgate bench: warning: {line}", file=sys.stderr)
    if outcome.interrupted:
        print("ledgate bench: interrupted", file=sys.stderr)
        return _INTERRUPTED
    if MALFORMED in outcome.errors:
        raise Internal(f"answers: expected well-formed ones, found {outcome.details[MALFORMED]}")
    if not outcome.answered:
        raise ServiceError(f"calls: expected answers, found none to {outcome.begun} calls")
    return 0


def _add_load(parser: argparse.ArgumentParser) -> None:
    """How much is asked, and for how long."""
    add = parser.add_argument_group("the load").add_argument
    add("--callers", type=int, metavar="N", help="closed loop: so many callers, each of which calls again when it has "
        "its answer; by default 32, unless there is a rate")  # fmt: skip
    add("--rate", type=float, metavar="CALLS", help="open loop: so many calls a second, at random (Poisson) whatever "
        "the server does; latency counts from when a call was to arrive")  # fmt: skip
    add("--warm-up-s", type=float, default=2.0, metavar="S", help="seconds of the same load before what is measured")
    add("--duration-s", type=float, metavar="S", help="measure so many seconds; by default 10")
    add("--calls", type=int, metavar="N", help="measure so many calls instead")
    add("--deadline-s", type=float, default=30.0, metavar="S", help="of each call; a message of a stream has none, but "
        "a run ends when nothing has been heard for so long")  # fmt: skip
    add("--seed", type=int, default=0, help="of arrival times, of the order of batch sizes and of random images")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    """What is sent, and how."""
    add = parser.add_argument_group("the calls").add_argument
    add("--batch", type=_sizes, default="1", metavar="IMAGES[,IMAGES...]", help="images of a call; of several sizes "
        "each call has one at random, such as 1,16,64")  # fmt: skip
    add("--images", type=Path, metavar="FILE.npz", help="send these, over and over; by default 256 images of noise of "
        "the model's shape, of which the flagged share says nothing about honest images")  # fmt: skip
    add("--format", choices=("uint8", "float32", "png"), help="as what images travel; by default as in the file, and "
        "noise as uint8")  # fmt: skip
    add("--streams", type=int, metavar="N", help="send messages over so many streams, instead of single calls")
    add("--model", default="", metavar="NAME", help="of a server with several; else its default")
    add("--check", action="store_true", help="read every answer whole; one that is not well-formed is an error")


def _sizes(word: str) -> tuple[int, ...]:
    """Batch sizes as they are typed."""
    try:
        return tuple(int(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, found {word!r}") from None


def _load(options: argparse.Namespace) -> "Load":
    """The load of the options."""
    from detector.errors import SettingError
    from serving.bench.load import ClosedLoop, OpenLoop

    if options.rate is None:
        return ClosedLoop() if options.callers is None else ClosedLoop(callers=options.callers)
    if options.callers is not None:
        raise SettingError("--rate: expected without --callers, found both; a load is an open or a closed loop")
    return OpenLoop(rate=options.rate, seed=options.seed)


def _plan(options: argparse.Namespace) -> "Plan":
    """What is measured, and whether the other numbers are in range."""
    from detector.errors import SettingError
    from serving.bench.load import Plan

    if options.streams is not None and options.streams < 1:
        raise SettingError(f"--streams: expected at least 1, found {options.streams}")
    if not 0 < options.deadline_s < math.inf:
        raise SettingError(f"--deadline-s: expected a positive number of seconds, found {options.deadline_s:g}")
    if options.seed < 0:
        raise SettingError(f"--seed: expected at least 0, found {options.seed}")
    duration_s = 10.0 if options.duration_s is None and options.calls is None else options.duration_s
    return Plan(warm_up_s=options.warm_up_s, duration_s=duration_s, calls=options.calls)


def _payloads(options: argparse.Namespace, info: "ModelInfo") -> "Payloads":
    """The requests."""
    from detector.imageset import ImageSet
    from serving.bench.payloads import Format, Payloads, random_images

    images = random_images(info.shape, options.seed) if options.images is None else ImageSet.load(options.images).images
    form = Format(images.dtype.name if options.format is None else options.format)
    return Payloads(images, options.batch, info=info, model=options.model, form=form, seed=options.seed)


def _route(options: argparse.Namespace) -> "Route":
    """The way to the server."""
    from serving.bench.route import Route
    from serving.tokens import read_token

    return Route(
        address=options.address,
        tls=tls_of(options),
        token=None if options.token_file is None else read_token(options.token_file),
        token_in_plaintext=options.token_in_plaintext,
    )


def _sender(options: argparse.Namespace, channel: Any, route: "Route", info: "ModelInfo") -> tuple["Sender", "Answers"]:
    """What sends requests over gRPC's channel, and what reads its replies."""
    from serving.bench.answers import Answers, decode_reply, decode_stream_reply
    from serving.bench.streams import Streams
    from serving.bench.unary import Unary

    classes = len(info.labels)
    if options.streams is None:
        unary = Unary(channel, metadata=route.metadata, deadline_s=options.deadline_s)
        return unary, Answers(decode_reply, classes=classes, check=options.check)
    streams = Streams(channel, count=options.streams, metadata=route.metadata)
    return streams, Answers(decode_stream_reply, classes=classes, check=options.check)


def _settings(options: argparse.Namespace, load: "Load", payloads: "Payloads", route: "Route") -> dict[str, Any]:
    """What was asked for, as JSON; of what reaches the server only whether it was encrypted."""
    left_out = {*CONNECTION, "address", "command", "json", "callers", "rate", "images"}
    chosen = {name: value for name, value in vars(options).items() if name not in left_out}
    images = "noise" if options.images is None else str(options.images)
    return {
        "load": load.describe(),
        **chosen,
        "images": images,
        "requests": len(payloads),
        "tls": route.tls is not None,
    }


def _described(info: "ModelInfo") -> dict[str, Any]:
    """The model, as JSON."""
    return {
        "name": info.name,
        "bundle_digest": info.bundle_digest,
        "calibration_digest": info.calibration_digest,
        "members": info.members,
        "classes": len(info.labels),
        "shape": list(info.shape),
        "provider": info.provider,
    }


def _headline(options: argparse.Namespace, info: "ModelInfo", load: "Load", outcome: "Outcome") -> str:
    """What was measured, in two lines."""
    images = f"{' or '.join(map(str, options.batch))} image{'' if options.batch == (1,) else 's'}"
    how = "calls" if options.streams is None else f"messages on {options.streams} streams"
    return (f"{options.address}: {info.name}, {info.members} members, {len(info.labels)} classes, {info.provider}\n"
            f"{load}, {how} of {images}; {outcome.duration_s:.1f} s measured")  # fmt: skip
