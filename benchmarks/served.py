"""A server and its load, each in a process of its own, by the commands that users have."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
SERVE: Final = ("ledgate", "serve")
_END_S: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server.

    Attributes:
        address: Host and port.
        ready: What it said when it was ready.
        pid: Of its process.
    """

    address: str
    ready: dict[str, Any]
    pid: int


@contextmanager
def served(*words: str, command: Sequence[str] = SERVE) -> Iterator[Served]:
    """Serves on a free loopback port, on the CPU; the words are options and bundles of `ledgate serve`."""
    fixed = ("--port", "0", "--device", "cpu", "--json", "--log-level", "warning")
    with _process(*command, *fixed, *words) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"serve: expected a server, found one that ended with {process.wait(_END_S)}")
            ready = json.loads(line)
            yield Served(address=ready["address"], ready=ready, pid=process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)


@contextmanager
def loaded(address: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Loads a server with `ledgate bench`, which is ended where it has not by the end of the context."""
    with _process("ledgate", "bench", address, "--json", *words) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(_END_S)


def outcome(process: "subprocess.Popen[str]", *, interrupt: bool = False) -> dict[str, Any]:
    """Waits for a load, or ends it, and returns what it printed."""
    if interrupt:
        process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    if not printed:
        raise RuntimeError(f"bench: expected its figures, found an end with {process.returncode}")
    found: dict[str, Any] = json.loads(printed)
    return found


def _process(module: str, *words: str) -> "subprocess.Popen[str]":
    """One of our modules, from the repository's root."""
    return subprocess.Popen([sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
