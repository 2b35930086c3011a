"""What a call costs who makes it: the ways in which a load generator can call, side by side.

    python -m benchmarks.callers --out callers.json

Threads that wait, callbacks on futures, and asyncio keep so many calls of 3 KB under way against a server that does
nothing, in a process of its own; likewise callbacks in two processes that share the callers. Judged by the callers' CPU
time for a call, which other processes move least. Then arrivals at random: by how much a call is sent too late, by a
thread that sleeps and by an event loop. `serving/bench` is built on what is cheapest here.
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
from tqdm import tqdm

from benchmarks.ending import finish
from benchmarks.served import ROOT
from detector.provenance import provenance
from serving.bench.schedule import poisson

_METHOD: Final = "/echo.Echo/Echo"
_REQUEST: Final = bytes(3 * 32 * 32)
_DEADLINE_S: Final = 30.0
PROCESSES: Final = 2


class _Nothing(grpc.GenericRpcHandler):
    """Answers every call with as many bytes as an answer for one image has."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ARG002
        """The handler."""
        return grpc.unary_unary_rpc_method_handler(lambda *_: bytes(300))


def threads(address: str, callers: int, calls: int) -> None:
    """A thread for each caller, which waits in its call."""
    with grpc.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(_METHOD)
        numbers = itertools.count()

        def caller(_: int) -> None:
            while next(numbers) < calls:
                method(_REQUEST, timeout=_DEADLINE_S)

        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(caller, range(callers)))


def callbacks(address: str, callers: int, calls: int) -> None:
    """The next call begins in the callback of the one before; the way of `serving/bench`."""
    with grpc.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(_METHOD)
        begun, ended = itertools.count(), itertools.count(1)
        over = threading.Event()

        def begin() -> None:
            if next(begun) < calls:
                method.future(_REQUEST, timeout=_DEADLINE_S).add_done_callback(end)

        def end(call: Any) -> None:
            call.result()
            if next(ended) == calls:
                over.set()
            begin()

        for _ in range(callers):
            begin()
        over.wait()


def asynchronous(address: str, callers: int, calls: int) -> None:
    """A task for each caller."""

    async def main() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            method: Any = channel.unary_unary(_METHOD)
            numbers = itertools.count()

            async def caller() -> None:
                while next(numbers) < calls:
                    await method(_REQUEST, timeout=_DEADLINE_S)

            await asyncio.gather(*(caller() for _ in range(callers)))

    asyncio.run(main())


STYLES: Final[dict[str, Callable[[str, int, int], None]]] = {
    "threads": threads,
    "callbacks": callbacks,
    "asyncio": asynchronous,
}


def late_threads(rate: float, calls: int) -> list[float]:
    """By how much a thread wakes too late for arrivals at random, in seconds."""
    start_s, found = time.perf_counter(), []
    for at_s in itertools.islice(poisson(rate, 0), calls):
        time.sleep(max(0.0, start_s + at_s - time.perf_counter()))
        found.append(time.perf_counter() - start_s - at_s)
    return found


def late_loop(rate: float, calls: int) -> list[float]:
    """Likewise an event loop."""

    async def main() -> list[float]:
        start_s, found = time.perf_counter(), []
        for at_s in itertools.islice(poisson(rate, 0), calls):
            await asyncio.sleep(max(0.0, start_s + at_s - time.perf_counter()))
            found.append(time.perf_counter() - start_s - at_s)
        return found

    return asyncio.run(main())


def call(style: str, address: str, callers: int, calls: int) -> dict[str, float]:
    """Calls in a way; returns CPU microseconds of this process for a call, and calls a second."""
    STYLES[style](address, callers, callers)  # connects, and compiles what there is to compile
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    STYLES[style](address, callers, calls)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return {"cpu_us": 1e6 * cpu_s / calls, "calls_per_s": calls / wall_s}


def several(style: str, address: str, callers: int, calls: int) -> dict[str, float]:
    """The same in processes that share the callers."""
    words = ["--child", style, "--address", address, "--callers", str(callers // PROCESSES)]
    command = [sys.executable, "-m", "benchmarks.callers", *words, "--calls", str(calls // PROCESSES)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(PROCESSES)]
    found = [json.loads(child.communicate()[0]) for child in children]
    return {"cpu_us": sum(each["cpu_us"] for each in found) / PROCESSES,
            "calls_per_s": sum(each["calls_per_s"] for each in found)}  # fmt: skip


@contextmanager
def server() -> Iterator[str]:
    """A server that does nothing, in a process of its own; yields its address."""
    command = [sys.executable, "-m", "benchmarks.callers", "--child", "server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def serve() -> None:
    """Is the server, until it is ended."""
    served = grpc.server(ThreadPoolExecutor(4), handlers=[_Nothing()])
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    print(f"127.0.0.1:{port}", flush=True)
    served.wait_for_termination()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Calls in turns, in all ways; returns what the JSON has."""
    found: dict[str, list[dict[str, float]]] = {}
    with server() as address:
        for _ in tqdm(range(options.repeats), desc="rounds", disable=None, leave=False):
            for callers in sorted({1, options.callers}):
                calls = max(PROCESSES, options.calls // (1 if callers > 1 else 4))
                for style in STYLES:
                    found.setdefault(f"{style}, {callers}", []).append(call(style, address, callers, calls))
            name = f"callbacks in {PROCESSES} processes, {options.callers}"
            found.setdefault(name, []).append(several("callbacks", address, options.callers, options.calls))
    late = {"a thread that sleeps": late_threads, "an event loop": late_loop}
    return {
        "judged_by": "CPU time of the callers, median over the rounds",
        "settings": {name: getattr(options, name) for name in ("callers", "calls", "repeats", "rate")},
        "cpu_us": {name: median(each["cpu_us"] for each in rounds) for name, rounds in found.items()},
        "calls_per_s": {name: median(each["calls_per_s"] for each in rounds) for name, rounds in found.items()},
        "late_ms": {name: 1e3 * median(wait(options.rate, options.arrivals)) for name, wait in late.items()},
        "rounds": found,
        "provenance": provenance("grpcio"),
    }


def table(found: dict[str, Any]) -> str:
    """The medians, for people; Markdown."""
    lines = ["| way, callers | client CPU, us a call | calls/s |", "|---|---|---|"]
    lines += [
        f"| {name} | {cpu_us:.0f} | {found['calls_per_s'][name]:.0f} |" for name, cpu_us in found["cpu_us"].items()
    ]
    late = ", ".join(f"{name} {late_ms:.2f} ms" for name, late_ms in found["late_ms"].items())
    return "\n".join([*lines, f"\nlate for arrivals at random, {found['settings']['rate']:g} a second, median: {late}"])


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.callers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--callers", type=int, default=32, metavar="N", help="calls under way, beside 1 (default: 32)")
    add("--calls", type=int, default=6000, metavar="N", help="in a round (default: 6000)")
    add("--repeats", type=int, default=5, metavar="N", help="rounds (default: 5)")
    add("--rate", type=float, default=200.0, metavar="N", help="arrivals a second (default: 200)")
    add("--arrivals", type=int, default=1000, metavar="N", help="of these (default: 1000)")
    add("--quick", action="store_true", help="few calls, to see that it runs; the figures mean nothing")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    add("--child", choices=("server", *STYLES), help=argparse.SUPPRESS)
    add("--address", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.quick:
        options.callers, options.calls, options.repeats, options.arrivals = 4, 40, 1, 20
    return options


def main() -> int:
    """Measures, prints, writes."""
    options = parse()
    if options.child == "server":
        serve()
    elif options.child is not None:
        print(json.dumps(call(options.child, options.address, options.callers, options.calls)))
    else:
        found = measure(options)
        return finish(found, table(found), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
