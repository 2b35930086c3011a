"""New versions of a bundle: taken when good, refused when bad, and no call lost on the way."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from detector.bundle import write_bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.config import ServerConfig
from serving.opening import Opener
from serving.reload import Reloader
from serving.replies import ReplyWriter
from serving.server import Server
from tests.conftest import make_members
from tests.serving.conftest import (
    CLASSES,
    PATIENCE_S,
    SHAPE,
    GatedDetector,
    Served,
    Submissions,
    member,
    picture,
    request,
)
from tests.serving.test_service import assert_own

OPENER = Opener(device="cpu", threads=1, max_batch=32)
LABELS = [f"class {index}" for index in range(CLASSES)]


@pytest.fixture(scope="session")
def versions(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `one` and `two`, other members and calibrated; `bare`, two without its calibration; and bad ones."""
    root = tmp_path_factory.mktemp("versions")
    shutil.copytree(folder / "tiny", root / "one")
    write_bundle(root / "two", members=[member(seed) for seed in (3, 4, 5)], labels=LABELS, provenance={"n": 2})
    shutil.copytree(root / "two", root / "bare")
    images = np.random.default_rng(1).integers(0, 256, (400, *SHAPE)).astype(np.uint8)
    calibrate(root / "two", clean=ImageSet(images=images), target=TargetFpr(0.3), device="cpu")
    shutil.copytree(root / "two", root / "corrupt")
    content = bytearray((root / "corrupt/member_1.onnx").read_bytes())
    content[-1] ^= 1
    (root / "corrupt/member_1.onnx").write_bytes(content)
    shutil.copytree(root / "two", root / "mixed")
    for name in ("calibration.json", "probes.npz"):
        shutil.copy(root / "one" / name, root / "mixed" / name)
    wide = make_members(shape=(1, 8, 9))
    write_bundle(root / "wide", members=wide, labels=LABELS, provenance={})
    other = [*LABELS[:3], "cat", *LABELS[4:]]
    write_bundle(root / "relabelled", members=[member(seed) for seed in (3, 4, 5)], labels=other, provenance={})
    fewer = make_members(shape=SHAPE, classes=CLASSES - 1)
    write_bundle(root / "fewer", members=fewer, labels=LABELS[:-1], provenance={})
    (root / "empty").mkdir()
    return root


def lead(link: Path, target: Path) -> None:
    """Moves a link in one step."""
    new = link.with_name(".new")
    new.symlink_to(target)
    new.replace(link)


class Reloading:
    """A server of one link, and its reloader."""

    def __init__(self, server: Server, link: Path, *, watch_s: float = 0.0) -> None:
        self.link = link
        self.served: SimpleQueue[str] = SimpleQueue()
        self.server = server

        def serve(detector: Any) -> None:
            server.replace(detector)
            self.served.put(detector.bundle.digest)

        self.reloader = Reloader([link], OPENER, served=lambda: server.models, serve=serve, watch_s=watch_s)
        server.open([OPENER.open(link)])

    @property
    def digest(self) -> str:
        return self.server.models[0].detector.bundle.digest


@pytest.fixture
def reloading(versions: Path, tmp_path: Path) -> Iterator[Reloading]:
    """Version one, served by a link."""
    (tmp_path / "link").symlink_to(versions / "one")
    with Server(ServerConfig(port=0)) as server:
        server.start()
        found = Reloading(server, tmp_path / "link")
        with found.reloader:
            yield found


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], logging.LogRecord]]:
    """Waits for the next line that the reloader writes to the log."""
    caplog.set_level(logging.DEBUG, "serving.reload")
    lines: SimpleQueue[logging.LogRecord] = SimpleQueue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.put(record)

    logger, handler = logging.getLogger("serving.reload"), Handler()
    logger.addHandler(handler)
    yield lambda: lines.get(timeout=PATIENCE_S)
    logger.removeHandler(handler)


Told = Callable[[], logging.LogRecord]


def digest(path: Path) -> str:
    return str(json.loads((path / "bundle.json").read_text("utf-8"))["digest"])


def test_another_version_is_served_under_the_same_name(reloading: Reloading, versions: Path, told: Told) -> None:
    lead(reloading.link, versions / "two")
    reloading.reloader.ask()
    assert reloading.served.get(timeout=PATIENCE_S) == digest(versions / "two")
    with grpc.insecure_channel(reloading.server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        reply = stub.Classify(request(1))
        described = stub.GetModel(pb.GetModelRequest(model="link"))
    assert_own(reply, Detector.open(versions / "two", device="cpu"), 1)
    assert (reply.model, reply.bundle_digest) == ("link", digest(versions / "two"))
    assert (described.name, described.bundle_digest) == ("link", digest(versions / "two"))
    assert described.calibration_digest == reply.calibration_digest
    record = told()
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"model link: {digest(versions / 'two')[:12]}, calibration ")
    assert f"in the place of {digest(versions / 'one')[:12]}" in record.getMessage()


def test_another_calibration_is_another_version(versions: Path, tmp_path: Path, told: Told) -> None:
    shutil.copytree(versions / "one", tmp_path / "own")
    with Server(ServerConfig(port=0)) as server:
        server.start()
        found = Reloading(server, tmp_path / "own")
        images = np.random.default_rng(7).integers(0, 256, (400, *SHAPE)).astype(np.uint8)
        calibrate(tmp_path / "own", clean=ImageSet(images=images), target=TargetFpr(0.1), device="cpu")
        with found.reloader:
            found.reloader.ask()
            assert found.served.get(timeout=PATIENCE_S) == digest(versions / "one")
        calibration = server.models[0].detector.bundle.calibration
    assert calibration is not None
    assert calibration.target == TargetFpr(0.1)


def test_what_is_unchanged_is_not_served_again(reloading: Reloading, told: Told) -> None:
    before = reloading.server.models
    reloading.reloader.ask()
    assert told().getMessage().endswith(" is unchanged")
    assert reloading.server.models == before


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("corrupt", "member_1.onnx: expected SHA-256"),
        ("mixed", "calibration.json: belongs to other members"),
        ("bare", "expected a calibration as before, found none"),
        ("wide", "expected input (1, 8, 8) as before, found (1, 8, 9)"),
        ("relabelled", "relabelled: class 3: expected 'class 3' as before, found 'cat'"),
        ("fewer", "fewer: expected 10 classes as before, found 9"),
        ("empty", "bundle.json: expected a file, found none"),
        ("nothing", "expected a bundle's folder, found nothing"),
    ],
)
def test_a_bad_version_is_refused_and_the_old_one_goes_on(
    reloading: Reloading, versions: Path, told: Told, bad: str, reason: str
) -> None:
    lead(reloading.link, versions / bad)
    reloading.reloader.ask()
    record = told()
    assert record.levelno == logging.ERROR
    assert reason in record.getMessage()
    assert record.getMessage().endswith("goes on")
    assert "\n" not in record.getMessage()
    assert reloading.digest == digest(versions / "one")
    lead(reloading.link, versions / "two")  # and the next good one is taken
    reloading.reloader.ask()
    assert reloading.served.get(timeout=PATIENCE_S) == digest(versions / "two")


def test_a_folder_that_is_watched_needs_no_signal(versions: Path, tmp_path: Path, told: Told) -> None:
    (tmp_path / "link").symlink_to(versions / "one")
    with Server(ServerConfig(port=0)) as server:
        server.start()
        found = Reloading(server, tmp_path / "link", watch_s=0.01)
        with found.reloader:
            for name in ("two", "one", "two"):
                lead(found.link, versions / name)
                assert found.served.get(timeout=PATIENCE_S) == digest(versions / name)
                told()
            lead(found.link, versions / "corrupt")
            assert told().levelno == logging.ERROR  # and once only:
            lead(found.link, versions / "one")
            assert told().levelno == logging.INFO


def test_the_old_version_answers_what_it_has_and_lets_go(
    serve: Callable[..., Served], tiny: Detector, versions: Path, submissions: Submissions
) -> None:
    old = GatedDetector(tiny)
    new = Detector.open(versions / "two", device="cpu", threads=1)
    new.bundle = replace(new.bundle, path=new.bundle.path.with_name("tiny"))
    gone = threading.Event()
    weakref.finalize(old, gone.set)
    with Server(ServerConfig(port=0, max_batch=4, batch_wait_s=0.0)) as server:
        server.start()
        server.open([old])
        with grpc.insecure_channel(server.address) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            running = stub.Classify.future(request(0))
            old.wait_for_run()
            waiting = [stub.Classify.future(request(*range(50))), stub.Classify.future(request(7))]
            submissions.wait(3)
            server.replace(new)
            after = stub.Classify(request(1))  # while the old one is stuck
            assert_own(after, new, 1)
            assert not running.done()
            assert not gone.is_set()
            old.release()
            assert_own(running.result(), tiny, 0)
            assert_own(waiting[0].result(), tiny, *range(50))
            assert_own(waiting[1].result(), tiny, 7)
        del old
        assert gone.wait(PATIENCE_S)
    assert after.bundle_digest != running.result().bundle_digest == tiny.bundle.digest


CALLERS = 6
CALLS = 3000
# Between two of them callers go on for a while.
TURNS = ("two", "one", "two", "corrupt", "one")


class Load:
    """Callers that go on until they are stopped, each answer checked against the version it names."""

    def __init__(self, address: str, expected: dict[str, list[pb.ClassifyResponse]]) -> None:
        self._address = address
        self._expected = expected
        self.stop = threading.Event()
        self._condition = threading.Condition()
        self.answered: dict[str, int] = dict.fromkeys(expected, 0)

    def call(self, number: int) -> None:
        """One caller: single images, many images, and a stream, by turns."""
        with grpc.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            while not self.stop.is_set():
                for image in range(number, 64, CALLERS):
                    self.check(stub.Classify(request(image), timeout=PATIENCE_S), image)
                self.check(stub.Classify(request(*range(64)), timeout=PATIENCE_S), *range(64))
                stream = stub.ClassifyStream(iter([request(image) for image in range(10)]), timeout=PATIENCE_S)
                for image, answer in enumerate(stream):
                    self.check(answer.response, image)

    def check(self, reply: pb.ClassifyResponse, *images: int) -> None:
        """The answer is, to the bit, what the version that it names says of these images."""
        known = self._expected[reply.bundle_digest]
        expected = pb.ClassifyResponse()
        for image in images:
            expected.MergeFrom(pb.ClassifyResponse(results=known[image].results))
        assert list(reply.results) == list(expected.results)
        assert reply.calibration_digest == known[0].calibration_digest
        assert reply.threshold == known[0].threshold
        with self._condition:
            self.answered[reply.bundle_digest] += 1
            self._condition.notify_all()

    def wait(self, count: int) -> None:
        """Waits for so many answers more."""
        with self._condition:
            goal = sum(self.answered.values()) + count
            assert self._condition.wait_for(lambda: sum(self.answered.values()) >= goal, PATIENCE_S)


def test_no_call_is_lost_and_none_mixes_two_versions(versions: Path, tmp_path: Path) -> None:
    """Thousands of calls to a real server while its bundle is exchanged four times, and refused once."""
    expected = {}
    for name in ("one", "two"):
        detector = Detector.open(versions / name, device="cpu", threads=1)
        writer = ReplyWriter(detector, ServerConfig())
        expected[detector.bundle.digest] = [
            writer.write(detector.classify(picture(image)[None]), "") for image in range(64)
        ]
    (link := tmp_path / "link").symlink_to(versions / "one")
    command = [sys.executable, "-m", "ledgate", "serve", str(link), "--port=0", "--json", "--device=cpu", "--threads=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # A server that says nothing is ended, and its empty line fails the test.
        patience = threading.Timer(2 * PATIENCE_S, process.kill)
        patience.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            load = Load(json.loads(process.stdout.readline())["address"], expected)
            with ThreadPoolExecutor(CALLERS) as pool:
                callers = [pool.submit(load.call, number) for number in range(CALLERS)]
                try:
                    for name in TURNS:
                        lead(link, versions / name)
                        process.send_signal(signal.SIGHUP)
                        verdict = process.stderr.readline()  # the server's word that it has done so, or why not
                        assert ("goes on" if name == "corrupt" else "in the place of") in verdict
                        load.wait(CALLS // len(TURNS))
                finally:
                    load.stop.set()
                for caller in callers:
                    caller.result(timeout=PATIENCE_S)
            assert all(count >= CALLS / len(TURNS) for count in load.answered.values())
        finally:
            patience.cancel()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
