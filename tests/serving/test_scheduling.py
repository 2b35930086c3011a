"""Which of the server's threads may interrupt others: none that gRPC, a model or its lanes have."""

import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.client import Client
from serving.scheduling import interrupt_less
from tests.serving.conftest import picture

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system has no SCHED_BATCH")


def on_a_thread(*works: Any) -> Any:
    """Does works one after another on a thread of its own, so that no other is changed; returns what the last does."""
    with ThreadPoolExecutor(1, initializer=lambda: choose(os.SCHED_OTHER)) as thread:
        return [thread.submit(work).result() for work in works][-1]


def choose(policy: int) -> None:
    os.sched_setscheduler(0, policy, os.sched_param(0))


def policy() -> int:
    return os.sched_getscheduler(0)


def begun_here() -> int:
    """The policy of a thread that this one begins."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(policy()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_and_those_it_begins() -> None:
    assert on_a_thread(policy) == os.SCHED_OTHER
    assert on_a_thread(interrupt_less, policy) == os.SCHED_BATCH
    assert on_a_thread(interrupt_less, begun_here) == os.SCHED_BATCH


def test_what_somebody_has_chosen_stays() -> None:
    assert on_a_thread(lambda: choose(os.SCHED_IDLE), interrupt_less, policy) == os.SCHED_IDLE


def test_where_it_is_forbidden_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    def server() -> None:
        monkeypatch.setattr(os, "sched_setscheduler", forbidden)
        interrupt_less()

    with caplog.at_level(logging.INFO):
        on_a_thread(server)
    assert "SCHED_BATCH: [Errno 1] Operation not permitted" in caplog.text


def test_every_thread_of_a_server_that_carries_calls(folder: Path) -> None:
    command = [sys.executable, "-m", "ledgate", "serve", str(folder / "tiny"), "--port=0", "--json", "--device=cpu"]
    # Without threads of numpy's own, which begin before the server does.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            with Client(address) as client:
                client.classify(picture(1)[None])
            threads = [int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir()]
            assert len(threads) > 5
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}
        finally:
            server.terminate()
