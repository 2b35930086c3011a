"""mosec with the same members: `python -m ... BUNDLE` starts it on a free port and says so."""

import http.client
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from mosec import Server, Worker  # type: ignore[import-not-found,unused-ignore]
from numpy.typing import NDArray

from benchmarks.peers.servers.launching import free_port, tell_when
from benchmarks.peers.servers.sessions import Sessions
from detector.device import usable_cores

_BUNDLE: Final = "LEDGATE_BENCHMARK_BUNDLE"  # mosec keeps the command line to itself
_BATCH: Final = 32
Array = NDArray[np.float32]


class Members(Worker):  # type: ignore[misc]
    """One process with all members."""

    def __init__(self) -> None:
        super().__init__()
        self._members = Sessions(Path(os.environ[_BUNDLE]))

    def deserialize(self, data: bytes) -> Array:
        """Images of one call, (N, C, H, W)."""
        return np.frombuffer(data, np.float32).reshape(-1, *self._members.shape)

    def serialize(self, data: Array) -> bytes:
        """Their logits."""
        return data.tobytes()

    def forward(self, data: list[Array]) -> list[Array]:
        """One run for all calls."""
        ends = np.cumsum([len(part) for part in data])[:-1]
        return np.split(self._members.logits(np.concatenate(data)), ends)


def main() -> None:
    """Serves until it is ended."""
    if _BUNDLE in os.environ:
        server: Any = Server()  # type: ignore[no-untyped-call,unused-ignore]
        server.append_worker(Members, num=usable_cores(), max_batch_size=_BATCH, max_wait_time=0)
        server.run()
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [
            sys.executable, "-m", __spec__.name, "--address=127.0.0.1", f"--port={port}", f"--path={folder}/sockets",
            "--log-level=warning",
        ]  # fmt: skip
        environment = {**os.environ, _BUNDLE: str(Path(sys.argv[1]).resolve())}
        process = subprocess.Popen(command, env=environment)
        tell_when(lambda: _ready(port), process, f"127.0.0.1:{port}", "mosec")


def _ready(port: int) -> bool:
    """Whether it answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
