"""What every peer needs to be started: a free port, and to know when it answers."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from typing import Final

_PATIENCE_S: Final = 60.0


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tell_when(answers: Callable[[], bool], process: "subprocess.Popen[bytes]", address: str, package: str) -> None:
    """Waits until the server answers, says so, and waits until the server, or we, are ended.

    What it says is a line of JSON: the address, and the package's name and version.

    Raises:
        RuntimeError: It ended before, or took too long.
    """
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    until_s = time.monotonic() + _PATIENCE_S
    while not answers():
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            raise RuntimeError(f"{process.args!r}: expected a server, found status {process.poll()}")
        time.sleep(0.1)
    print(json.dumps({"address": address, "package": f"{package} {version(package)}"}), flush=True)
    process.wait()
