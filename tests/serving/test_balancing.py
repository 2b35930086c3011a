"""Several servers: all have their share, one that dies costs no call, and one that comes back is found."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import DeadlineExceeded, InputError, Unavailable
from detector.imageset import ImageSet
from detector.verdicts import Verdicts
from ledgate.cli import main
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.asyncclient import AsyncClient
from serving.certificates import Certificates
from serving.channels import open_channels
from serving.client import Client
from serving.retry import Retry
from serving.tls import Tls
from tests.serving.callers import Caller, Connect
from tests.serving.conftest import PATIENCE_S, GatedDetector, Submissions, picture
from tests.serving.counted import CLASSIFY, GET_MODEL, counted, unused_port
from tests.serving.operating import OPENSSL, operated, self_signed
from tests.serving.test_client import assert_same, noise

QUICK = Retry(attempts=1000, initial_s=0.01, max_s=0.05, budget=None)


@pytest.fixture
def other(folder: Path) -> Detector:
    """Another version of `tiny`: other members, and not calibrated."""
    detector = Detector.open(folder / "twins", device="cpu", threads=1)
    detector.bundle = replace(detector.bundle, path=detector.bundle.path.with_name("tiny"))
    return detector


@pytest.mark.parametrize("form", [",".join, list, tuple], ids=["text", "list", "tuple"])
def test_servers_have_their_turns(connect: Connect, tiny: Detector, form: Callable[[list[str]], Any]) -> None:
    with counted(tiny) as (one, first), counted(tiny) as (two, second):
        client = connect(form([one.address, two.address]))
        for number in range(20):
            assert_same(client.classify(picture(number)), tiny.classify(picture(number)[None]))
        assert first.count(CLASSIFY) == second.count(CLASSIFY) == 10


def test_the_parts_of_a_large_array_are_shared(connect: Connect, tiny: Detector) -> None:
    images = noise(64)
    with counted(tiny, max_images=4) as (one, first), counted(tiny, max_images=4) as (two, second):
        assert_same(connect([one.address, two.address]).classify(images), tiny.classify(images))
        assert first.count(CLASSIFY) + second.count(CLASSIFY) == 16
        assert min(first.count(CLASSIFY), second.count(CLASSIFY)) >= 4


def test_a_server_that_is_stuck_gets_no_more_than_its_share(
    connect: Connect, tiny: Detector, gated: GatedDetector
) -> None:
    with counted(gated) as (stuck, first), counted(tiny) as (well, second):
        client = connect([well.address, stuck.address])  # the description comes from the first
        stuck_call = client.start("classify", picture(1))
        gated.wait_for_run()
        for number in range(20):
            client.classify(picture(number))
        assert (first.count(CLASSIFY), second.count(CLASSIFY)) == (1, 20)
        gated.release()
        stuck_call.result(PATIENCE_S)


def test_a_dead_server_is_passed_over_and_found_again(connect: Connect, tiny: Detector) -> None:
    port = unused_port()
    with counted(tiny) as (well, _):
        client = connect([f"127.0.0.1:{port}", well.address], retry=Retry(attempts=1))
        for number in range(20):
            client.classify(picture(number))
        with counted(tiny, port=port) as (_, calls):
            while not calls.count(CLASSIFY):
                client.classify(picture(1), timeout_s=PATIENCE_S)
        for number in range(20):
            client.classify(picture(number))


def test_a_full_queue_sends_a_call_to_the_other_server(
    connect: Connect, tiny: Detector, gated: GatedDetector, submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retry, "pause_s", lambda _, number: 3600.0)  # and at once
    with counted(gated, max_queue=1) as (full, first), counted(tiny) as (well, second):
        filling = connect(full.address)
        calls = [filling.start("classify", picture(1))]
        gated.wait_for_run()
        calls.append(filling.start("classify", picture(2)))
        submissions.wait(2)
        client = connect([full.address, well.address])
        for number in range(10):
            client.classify(picture(number))
        assert first.count(CLASSIFY) > 2  # it was asked, and said no
        assert second.count(CLASSIFY) == 10
        gated.release()
        for call in calls:
            call.result(PATIENCE_S)


def test_waiting_is_for_any_of_them(connect: Connect, tiny: Detector) -> None:
    with counted(tiny) as (well, _):
        client = connect([f"127.0.0.1:{unused_port()}", well.address])
        client.wait_ready(PATIENCE_S)
        with pytest.raises(DeadlineExceeded, match=r"^127.0.0.1:\d+, 127.0.0.1:\d+: expected a server that is ready"):
            connect([f"127.0.0.1:{unused_port()}", f"127.0.0.1:{unused_port()}"]).wait_ready(0.3)


def test_all_dead_is_unavailable(connect: Connect) -> None:
    client = connect([f"127.0.0.1:{unused_port()}" for _ in range(3)], retry=Retry(attempts=2, max_s=0.1))
    with pytest.raises(Unavailable, match=r"expected a server, found nobody.*\(tried [4-6] times\)"):
        client.model()


def test_a_model_that_is_replaced_between_the_parts_answers_all_of_them(
    connect: Connect, gated: GatedDetector, other: Detector
) -> None:
    images = np.stack([picture(number) for number in range(6)])
    with counted(gated, max_images=2) as (server, calls):
        client = connect(server.address, in_flight=1)
        call = client.start("classify", images)
        gated.wait_for_run()
        server.replace(other)
        gated.release()
        found = call.result(PATIENCE_S)
        assert_same(found, other.classify(images))
        assert found.version.bundle_digest == other.bundle.digest
        assert calls.count(CLASSIFY) == 4  # the first part twice


def test_servers_with_different_versions_never_mix_them(connect: Connect, tiny: Detector, other: Detector) -> None:
    images = noise(40)
    expected = {detector.bundle.digest: detector.classify(images) for detector in (tiny, other)}
    with counted(tiny, max_images=4) as (one, _), counted(other, max_images=4) as (two, _):
        found = connect([one.address, two.address]).classify(images)
    assert_same(found, expected[found.version.bundle_digest])


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")
def test_each_server_is_checked_by_its_own_name_and_gets_the_token(
    connect: Connect, tiny: Detector, tmp_path: Path
) -> None:
    (tokens := tmp_path / "tokens").write_text("0123456789abcdef\n")
    pair = self_signed(tmp_path, "server")  # made out to localhost and 127.0.0.1
    secured: dict[str, Any] = {"certificates": Certificates(cert=pair.cert, key=pair.key), "token_file": tokens}
    with operated(tiny, **secured) as (one, _), operated(tiny, **secured) as (two, _):
        addresses = [one.address, two.address.replace("127.0.0.1", "localhost")]
        client = connect(addresses, tls=Tls(ca=pair.cert), token="0123456789abcdef", retry=Retry(attempts=1))
        for number in range(4):
            client.classify(picture(number))


def test_a_token_leaves_this_machine_in_plaintext_to_none_of_them(kind: Any) -> None:
    with pytest.raises(InputError, match=r"token: expected TLS on the way to example\.org:1, found none"):
        kind(["localhost:1", "example.org:1"], token="0123456789abcdef")


class Told(list[Any]):
    """In the place of `grpc`: what channels would be made of."""

    def insecure_channel(self, address: str, options: Any) -> str:
        self.append((address, dict(options).get("grpc.service_config")))
        return address


def service_config(*addresses: str) -> list[str | None]:
    told = Told()
    open_channels(told, addresses, None, ())
    return [config for _, config in told]


def test_only_a_name_of_others_may_be_several_servers() -> None:
    one, two, three, many = service_config("127.0.0.1:1", "[::1]:2", "localhost:3", "cluster.example.org:4")
    assert (one, two, three) == (None, None, None)
    assert json.loads(many or "")["loadBalancingConfig"] == [{"round_robin": {}}]


def test_servers_of_one_name_are_asked_when_they_are_healthy(tiny: Detector) -> None:
    """By gRPC itself, with our configuration and our health; two numbers stand in for the records of a name."""
    (config,) = service_config("cluster.example.org:4")
    with counted(tiny) as (well, first), counted() as (starting, second):
        target = f"ipv4:{well.address},{starting.address}"
        with grpc.insecure_channel(target, options=[("grpc.service_config", config)]) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            for _ in range(20):
                stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S)
            assert (first.count(GET_MODEL), second.count(GET_MODEL)) == (20, 0)
            starting.open([tiny])
            while not second.count(GET_MODEL):
                stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_S)


def started(bundle: Path) -> "subprocess.Popen[str]":
    """A server that is a process of its own, to be ended."""
    command = [
        sys.executable,
        "-m",
        "ledgate",
        "serve",
        str(bundle),
        "--port=0",
        "--json",
        "--device=cpu",
        "--threads=1",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.fixture
def processes(folder: Path) -> Iterator[list["subprocess.Popen[str]"]]:
    """Two servers, each a process of its own."""
    servers = [started(folder / "tiny") for _ in range(2)]
    # A server that says nothing is ended, and its empty line fails the test.
    patience = [threading.Timer(2 * PATIENCE_S, server.kill) for server in servers]
    for timer in patience:
        timer.start()
    yield servers
    for timer, server in zip(patience, servers, strict=True):
        timer.cancel()
        server.terminate()
        server.communicate(timeout=PATIENCE_S)


class Load:
    """Callers that go on until they are stopped, each answer checked to the bit."""

    def __init__(self, clients: list[Caller], expected: list[Verdicts]) -> None:
        self.stop = threading.Event()
        self.answered = [0] * len(expected)
        self._clients = clients
        self._expected = expected
        self._condition = threading.Condition()

    def call(self, number: int) -> None:
        """One caller, of one of the clients."""
        client = self._clients[number % len(self._clients)]
        while not self.stop.is_set():
            assert_same(client.classify(picture(number)), self._expected[number])
            with self._condition:
                self.answered[number] += 1
                self._condition.notify_all()

    def wait(self, count: int) -> None:
        """Waits for so many answers more."""
        with self._condition:
            goal = sum(self.answered) + count
            assert self._condition.wait_for(lambda: sum(self.answered) >= goal, PATIENCE_S)


def test_no_call_is_lost_when_one_of_two_servers_is_stopped(
    processes: list["subprocess.Popen[str]"], tiny: Detector
) -> None:
    """Callers of both clients go on while a real server gets SIGTERM."""
    lines = [server.stdout.readline() for server in processes if server.stdout is not None]
    addresses = [json.loads(line)["address"] for line in lines]
    with ExitStack() as closing:
        clients = [
            closing.enter_context(Caller(kind, addresses, timeout_s=PATIENCE_S)) for kind in (Client, AsyncClient)
        ]
        load = Load(clients, [tiny.classify(picture(number)[None]) for number in range(8)])
        with ThreadPoolExecutor(8) as threads:
            callers = [threads.submit(load.call, number) for number in range(8)]
            try:
                load.wait(200)
                processes[0].send_signal(signal.SIGTERM)
                assert processes[0].wait(PATIENCE_S) == 0
                load.wait(200)
            finally:
                load.stop.set()
            for caller in callers:
                caller.result(PATIENCE_S)
        assert min(load.answered) > 0


def test_the_command_takes_several_servers(tiny: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images.npz"
    ImageSet(images=np.stack([picture(number) for number in range(3)])).save(images)
    with counted(tiny) as (server, calls):
        addresses = f"127.0.0.1:{unused_port()},{server.address}"
        assert main(["classify", addresses, str(images), "--json"]) == 0
        assert calls.count(CLASSIFY) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["class"] for row in rows] == tiny.classify(np.stack([picture(n) for n in range(3)])).labels.tolist()
