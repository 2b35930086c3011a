"""ONNX Runtime with nothing around it: a process that runs the members on batches that are there already.

So many threads at once each run all members on a batch of their own, with sessions of so many threads; which of
these is best is for the machine to say, so the command names them.
"""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.serving.children import answer
from detector.bundle import Bundle
from detector.device import CUDA, Device
from detector.session import load_cuda_libraries


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the members are run.

    Attributes:
        runners: Batches at a time.
        threads: Of a session.
        batch: Images in a batch.
    """

    runners: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.runners} at a time, batch {self.batch}, {self.threads} threads each"


class Bare:
    """The members of a bundle, with sessions for every number of threads that is asked for."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._bundle = bundle
        self._device = Device.parse(device)
        self._sessions: dict[int, list[Any]] = {}
        if self._device.provider == CUDA:
            load_cuda_libraries()

    def measure(self, command: dict[str, Any]) -> dict[str, Any]:
        """Runs for so many seconds in a `Way`."""
        way = Way(runners=command["runners"], threads=command["threads"], batch=command["batch"])
        sessions = self._opened(way.threads)
        name = self._bundle.input.name
        images = np.random.default_rng(0).random((way.batch, *self._bundle.input.shape), dtype=np.float32)
        latencies: list[float] = []

        def run(until_s: float) -> None:
            begun_s = time.perf_counter()
            while True:
                for session in sessions:
                    session.run(None, {name: images})
                ended_s = time.perf_counter()
                latencies.append(ended_s - begun_s)
                if (begun_s := ended_s) >= until_s:
                    return

        run(time.perf_counter())
        latencies.clear()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        runners = [threading.Thread(target=run, args=(wall_s + command["seconds"],)) for _ in range(way.runners)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        return {
            "calls": len(latencies),
            "seconds": time.perf_counter() - wall_s,
            "server_cpu_s": time.process_time() - cpu_s,
            "p50_ms": median(latencies) * 1e3,
            "p99_ms": float(np.percentile(latencies, 99)) * 1e3,
        }

    def _opened(self, threads: int) -> list[Any]:
        """The sessions, opened once."""
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._sessions[threads] = [
                onnxruntime.InferenceSession(member, options, providers=self._device.providers())
                for member in self._bundle.members
            ]
            found = {session.get_providers()[0] for session in self._sessions[threads]}
            if found != {self._device.provider}:
                raise RuntimeError(f"bare: expected {self._device.provider}, found {', '.join(found)}")
        return self._sessions[threads]


if __name__ == "__main__":
    answer(Bare(Bundle.open(Path(sys.argv[1])), sys.argv[2]).measure, {"provider": sys.argv[2]})
