"""A server in a process of its own, for as long as somebody asks it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from detector.errors import Unavailable

_STOP_S: Final = 60.0


@contextmanager
def serving(bundle: Path, log: Path) -> Iterator[str]:
    """Serves a bundle on a free loopback port, on the CPU; yields the address.

    Raises:
        Unavailable: The server ended before it was ready; its log says why.
    """
    command = [sys.executable, "-m", "ledgate", "serve", str(bundle), "--port", "0", "--device", "cpu", "--json"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
    ):
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                raise Unavailable(f"{log}: expected a server, found one that ended with {server.wait(_STOP_S)}")
            yield json.loads(line)["address"]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(_STOP_S)
