"""The callers: a process that keeps so many calls under way, each as soon as the one before it is answered.

One thread does all of it, on callbacks; a lone caller waits in its own thread, which is quicker. The request is made
once and the reply is not parsed, so that little of what is measured is the callers'.
"""

import asyncio
import base64
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
import numpy as np

from benchmarks.serving.children import answer

_PATIENCE_S: Final = 60.0
_UNBOUNDED: Final = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
Call = Callable[[list[float], float], None]


def closed_loop(address: str, method: str, payload: bytes, *, callers: int, seconds: float) -> list[float]:
    """Calls for so long, and returns the latency of each call in seconds."""
    with grpc.insecure_channel(address, options=_UNBOUNDED) as channel:
        call: Any = channel.unary_unary(method)
        grpc.channel_ready_future(channel).result(_PATIENCE_S)
        return (_alone if callers == 1 else _together)(call, payload, callers, time.perf_counter() + seconds)


def _alone(call: Any, payload: bytes, _: int, until_s: float) -> list[float]:
    """One caller."""
    latencies = []
    begun_s = time.perf_counter()
    while True:
        call(payload)
        ended_s = time.perf_counter()
        latencies.append(ended_s - begun_s)
        if (begun_s := ended_s) >= until_s:
            return latencies


def _together(call: Any, payload: bytes, callers: int, until_s: float) -> list[float]:
    """Many callers."""
    latencies: list[float] = []
    left = threading.Semaphore(0)
    failures: list[grpc.RpcError] = []

    def start() -> None:
        begun_s = time.perf_counter()
        if failures or (latencies and begun_s >= until_s):
            left.release()
            return

        def ended(answered: Any) -> None:
            if (error := answered.exception()) is not None:
                failures.append(error)
            latencies.append(time.perf_counter() - begun_s)
            start()

        call.future(payload).add_done_callback(ended)

    for _ in range(callers):
        start()
    for _ in range(callers):
        left.acquire()
    if failures:
        raise failures[0]
    return latencies


async def http_loop(address: str, path: str, payload: bytes, *, callers: int, seconds: float) -> list[float]:
    """The same over HTTP/1.1, a connection for each caller."""
    host, port = address.split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
    until_s = time.perf_counter() + seconds
    latencies: list[float] = []

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        begun_s = time.perf_counter()
        while not latencies or begun_s < until_s:
            writer.write(head + payload)
            answered = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not answered.startswith(b"http/1.1 200"):
                raise RuntimeError(f"expected 200, found {answered[:80]!r}")
            await reader.readexactly(int(answered.partition(b"content-length:")[2].split(b"\r\n")[0]))
            ended_s = time.perf_counter()
            latencies.append(ended_s - begun_s)
            begun_s = ended_s
        writer.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return latencies


def measure(command: dict[str, Any]) -> dict[str, Any]:
    """One closed loop: calls, seconds, CPU seconds, and latencies in milliseconds."""
    payload = base64.b64decode(command["payload"])
    how = {"callers": command["callers"], "seconds": command["seconds"]}
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    if command["method"].startswith("http:"):
        path = command["method"].removeprefix("http:")
        latencies = asyncio.run(http_loop(command["address"], path, payload, **how))
    else:
        latencies = closed_loop(command["address"], command["method"], payload, **how)
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return {
        "calls": len(latencies),
        "seconds": time.perf_counter() - wall_s,
        "client_cpu_s": time.process_time() - cpu_s,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
    }


if __name__ == "__main__":
    answer(measure, {"callers": "ready"})
