"""Memory that a burst of large messages has taken is given back."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.client import Client
from serving.trimming import Trimming, _glibc
from tests.serving.conftest import PATIENCE_S, SHAPE, picture

MIB = 1 << 20
CALLERS = 12
TURNS = 3


def resident(process: Any) -> int:
    """Bytes that a process has in memory."""
    (line,) = [line for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines() if "VmRSS" in line]
    return int(line.split()[1]) * 1024


def refuse_many(address: str) -> None:
    """Sends messages of 30 MiB, all of which are refused."""
    count = 30 * MIB // 64
    tensor = pb.Tensor(dtype=pb.UINT8, shape=[count, *SHAPE], data=bytes(count * 64))
    content = pb.ClassifyRequest(tensor=tensor)
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]

        def call(_: int) -> grpc.StatusCode:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Classify(content, timeout=PATIENCE_S)
            code = caught.value.code()
            assert isinstance(code, grpc.StatusCode)
            return code

        with ThreadPoolExecutor(CALLERS) as pool:
            assert set(pool.map(call, range(CALLERS * TURNS))) == {grpc.StatusCode.INVALID_ARGUMENT}


@pytest.mark.skipif(_glibc() is None, reason="the C library is no recent glibc")
def test_a_servers_memory_comes_back_after_a_burst(folder: Path) -> None:
    command = [sys.executable, "-m", "ledgate", "serve", str(folder / "tiny"), "--port=0", "--json", "--device=cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            with Client(address, timeout_s=PATIENCE_S) as client:
                client.classify(picture(1))
            before = resident(server)
            refuse_many(address)
            end = time.monotonic() + PATIENCE_S
            while resident(server) > before + 100 * MIB and time.monotonic() < end:
                time.sleep(0.1)
            assert resident(server) <= before + 100 * MIB
        finally:
            server.terminate()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.trimming._glibc", lambda: None)
    with Trimming() as trimming:
        assert not trimming._thread.is_alive()
