"""Processes of their own for what is compared, so that each has its own cores' time and nobody else's lock.

A child speaks lines of JSON: it says what it is when it is ready, and answers each command that it reads.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from serving.closing import Closing

ROOT: Final = Path(__file__).resolve().parents[2]
_END_S: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Child(Closing):
    """A process that says one line of JSON when it is ready.

    Args:
        command: What to run, from the repository's root.
        environment: Variables beside our own.

    Attributes:
        ready: What it said.

    Raises:
        RuntimeError: It ended without a word.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        try:
            self.ready: dict[str, Any] = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a command and returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def cpu_s(self) -> float:
        """CPU seconds of the process and of all that it has started and still runs, so far."""
        return sum(_cpu_s(pid) for pid in _family(self._process.pid))

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> dict[str, Any]:
        """The next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r}: expected a line of JSON, found the end")
        found: dict[str, Any] = json.loads(line)
        return found


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", name, *arguments]


def answer(commands: Callable[[dict[str, Any]], dict[str, Any]], ready: Mapping[str, Any]) -> None:
    """The child's side: says that it is ready, and answers commands until there are no more."""
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(commands(json.loads(line))), flush=True)


def _family(pid: int) -> list[int]:
    """A process, and those that come from it."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text("ascii").split()
    ]  # fmt: skip
    return [pid, *(each for child in children for each in _family(child))]


def _cpu_s(pid: int) -> float:
    """User and system time of one process; see proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
