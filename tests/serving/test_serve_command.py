"""`ledgate serve` as a process of its own."""

import io
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import grpc
import pytest
from PIL import Image

from detector.detector import Detector
from detector.device import gpu_count
from detector.shipped import BUNDLE, shipped_images
from ledgate.cli import main
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.client import Client
from tests.serving.conftest import PATIENCE_S, picture, request
from tests.serving.test_service import assert_own
from tests.shipping import make_shipped

COMMAND = (sys.executable, "-m", "ledgate", "serve")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers, which are ended whatever happens."""
    started: list[subprocess.Popen[str]] = []

    def process(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [*COMMAND, *map(str, arguments), "--device", "cpu", "--threads", "1"]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # the test reads both
        )
        return started[-1]

    yield process
    for one in started:
        one.kill()
        one.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The line that says that the server is ready."""
    assert process.stdout is not None
    found = process.stdout.readline()
    assert found, process.communicate()[1]
    return found


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status and the rest of both outputs."""
    out, error = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, error


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail; returns its one line."""

    def run(*arguments: str | Path, status: int = 1) -> str:
        assert main(["serve", *map(str, arguments)]) == status
        out, error = capsys.readouterr()
        assert out == ""
        (found,) = error.splitlines()
        return str(found)

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_all_calls_in_flight_be_answered(
    folder: Path, tiny: Detector, start: Start, number: signal.Signals
) -> None:
    # Nobody is run for a minute: those that are let in are surely in flight when the signal comes,
    # and the queue is known to be full once others have been refused.
    process = start(
        *(folder / "tiny", "--port=0", "--json", "--max-queue=32", "--max-batch=64", "--batch-wait-ms=60000")
    )
    address = json.loads(line(process))["address"]
    with grpc.insecure_channel(address) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.Classify.future(request(index)) for index in range(40)]
        answered: SimpleQueue[Any] = SimpleQueue()
        for call in calls:
            call.add_done_callback(answered.put)
        refused = [answered.get(timeout=PATIENCE_S) for _ in range(8)]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        process.send_signal(number)
        process.send_signal(number)  # the second changes nothing: some supervisors send two
        for index, call in enumerate(calls):
            if call not in refused:
                assert_own(call.result(timeout=PATIENCE_S), tiny, index)
        status, out, error = ended(process)
        assert (status, out) == (0, "")
        assert f"{number.name}: draining" in error
        with pytest.raises(grpc.RpcError) as caught:
            stub.Classify(request(1))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def large(width: int) -> bytes:
    """A PNG of a few kilobytes and 90 million pixels."""
    content = io.BytesIO()
    Image.new("1", (width, 9000)).save(content, "PNG")
    return content.getvalue()


def mistagged(tag: int) -> bytes:
    """A JPEG whose EXIF has a field that is larger than the file."""
    field = struct.pack("<HHHII", 1, tag, 2, 1 << 20, 100)
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + field + bytes(4))
    return content.getvalue()


def test_no_caller_writes_lines_that_are_no_json(folder: Path, start: Start) -> None:
    process = start(folder / "tiny", "--port=0", "--json", "--log-format=json", "--access-log")
    files = [large(10_000), large(10_001), *map(mistagged, (270, 271, 272))]
    with grpc.insecure_channel(json.loads(line(process))["address"]) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        for file in files[:2]:
            with pytest.raises(grpc.RpcError, match=r"expected at most 16777216 pixels, found 1000[01] x 9000"):
                stub.Classify(pb.ClassifyRequest(encoded=pb.EncodedImages(images=[file])))
        assert len(stub.Classify(pb.ClassifyRequest(encoded=pb.EncodedImages(images=files[2:]))).results) == 3
    process.send_signal(signal.SIGTERM)
    status, _, error = ended(process)
    assert status == 0
    loggers = [json.loads(one)["logger"] for one in error.splitlines()]
    assert loggers.count("ledgate.access") == 3
    assert "py.warnings" not in loggers


def test_the_line_for_people(folder: Path, start: Start) -> None:
    process = start(folder / "tiny", folder / "twins", "--port", "0")
    calibration = Detector.open(folder / "tiny", device="cpu").bundle.calibration
    assert calibration is not None
    found = re.fullmatch(
        r"serving tiny \(3 members, 10 classes, threshold (-[0-9.]+)\), twins \(3 members, 10 classes, not calibrated\)"
        r" on 127\.0\.0\.1:(\d+), CPUExecutionProvider float32\n",
        line(process),
    )
    assert found is not None
    assert found[1] == f"{calibration.threshold:.3f}"
    with Client(f"127.0.0.1:{found[2]}", timeout_s=PATIENCE_S) as client:
        assert client.model().available == ("tiny", "twins")
        assert client.classify(picture(1)).class_names == client.classify(picture(1), model="tiny").class_names
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():
        assert "libtorch" not in maps.read_text("utf-8")
    process.send_signal(signal.SIGTERM)
    status, out, error = ended(process)
    assert (status, out) == (0, "")
    assert "WARNING" not in error


def test_the_object_for_programs_and_options_that_arrive(folder: Path, start: Start) -> None:
    limits = ("--max-images=7", "--max-message-mb=0.5", "--max-pixels=99", "--reply=flag-only")
    process = start(folder / "tiny", "--port=0", "--json", *limits)
    ready = json.loads(line(process))
    bundle = Detector.open(folder / "tiny", device="cpu").bundle
    assert bundle.calibration is not None
    with grpc.insecure_channel(ready.pop("address")) as channel:
        stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        model = stub.GetModel(pb.GetModelRequest())
        assert model.limits == pb.Limits(max_images=7, max_message_bytes=2**19, max_pixels=99)
        assert not stub.Classify(request(1)).results[0].HasField("score")
    assert ready == {
        "provider": "CPUExecutionProvider",
        "dtype": "float32",
        "models": [
            {
                "name": "tiny",
                "members": 3,
                "classes": 10,
                "bundle_digest": bundle.digest,
                "calibration_digest": bundle.calibration.digest,
                "score": "log_diversity",
                "threshold": bundle.calibration.threshold,
                "thresholds": None,
            }
        ],
    }


# `ledgate serve`, with something else in the place of what comes with ledgate.
SERVE_SHIPPED = """
import sys
from pathlib import Path
import detector.shipped
detector.shipped.shipped_bundle.__defaults__ = (Path(sys.argv.pop(1)),)
from ledgate.cli import main
sys.exit(main())
"""


def test_without_a_bundle_it_serves_the_one_that_comes_with_ledgate(tmp_path: Path) -> None:
    home = make_shipped(tmp_path)
    command = [sys.executable, "-c", SERVE_SHIPPED, str(home), "serve", "--port=0", "--json", "--device=cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            ready = json.loads(line(process))
            assert [model["name"] for model in ready["models"]] == [BUNDLE]
            clean, _ = shipped_images(home)
            with Client(ready["address"], timeout_s=PATIENCE_S) as client:
                found = client.classify(clean.images)
            expected = Detector.open(home / BUNDLE, device="cpu").classify(clean.images)
            assert found.class_names == expected.class_names
        finally:
            process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0


# `ledgate serve`, one step of whose start waits for a line on standard input.
SLOW_START = """
import importlib, signal, sys
from ledgate.cli import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests before have left
module, owner, name = sys.argv.pop(1).split(":")
owner = getattr(importlib.import_module(module), owner) if owner else importlib.import_module(module)
step = getattr(owner, name)
def slow(*arguments):
    print("waits", flush=True)
    sys.stdin.readline()
    return step(*arguments)
setattr(owner, name, slow)
sys.exit(main())
"""


@pytest.mark.parametrize(
    "step", ["serving.settings::settle", "serving.opening:Opener:open"], ids=["before the options", "opening a bundle"]
)
def test_a_reload_asked_for_while_the_server_starts_does_not_end_it(folder: Path, step: str) -> None:
    command = [sys.executable, "-c", SLOW_START, step, "serve", str(folder / "tiny"), "--port=0", "--device=cpu"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert line(process) == "waits\n"
            process.send_signal(signal.SIGHUP)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert line(process).startswith("serving tiny ")
        finally:
            process.send_signal(signal.SIGTERM)
        status, _, error = ended(process)
    assert status == 0
    # Once there is something to reload, it is done.
    assert ("model tiny: " in error and " is unchanged" in error) is (step == "serving.opening:Opener:open")


def test_without_a_bundle_and_with_none_shipped_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE_SHIPPED, str(tmp_path), "serve", "--port=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"ledgate serve: {tmp_path / BUNDLE}: expected the bundle that comes with ledgate, found nothing; "
    assert done.stderr == f"{expected}name a bundle of your own\n"


def test_beyond_loopback_it_warns(folder: Path, start: Start) -> None:
    process = start(folder / "tiny", "--host", "0.0.0.0", "--port", "0")
    line(process)
    process.send_signal(signal.SIGTERM)
    status, _, error = ended(process)
    assert status == 0
    (warning,) = [each for each in error.splitlines() if "WARNING" in each]
    assert "listening on 0.0.0.0 without encryption" in warning


@pytest.mark.skipif(gpu_count() > 0, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line(folder: Path) -> None:
    command = [*COMMAND, str(folder / "tiny"), "--port=0", "--device=cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (found,) = done.stderr.splitlines()
    assert found.startswith("ledgate serve: device cuda: ")


def test_a_port_in_use_is_one_line(folder: Path, fails: Callable[..., str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = fails(folder / "tiny", "--port", port)
    assert found == f"ledgate serve: 127.0.0.1:{port}: expected a free port, found one in use"


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path: Path, fails: Callable[..., str]) -> None:
    expected = f"ledgate serve: {tmp_path}/bundle.json: expected a file, found none"
    assert fails(tmp_path, "--port=0") == expected


def test_two_bundles_of_one_name_are_one_line(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    found = fails(folder / "tiny", tmp_path / "tiny", "--port=0")
    assert found == "ledgate serve: models: expected a name for each, found 'tiny' 2 times"


def test_members_with_flag_only_are_one_line(folder: Path, fails: Callable[..., str]) -> None:
    found = fails(folder / "tiny", "--port=0", "--allow-members", "--reply=flag-only", status=2)
    assert found.startswith("ledgate serve: allow_members: expected it off where replies are flag-only")


def test_a_signal_that_comes_just_before_the_wait_is_noticed() -> None:
    """Python has seen it, and runs its handler only once the wait that had begun ends by itself."""
    from serving.commands.serve import _next

    class Arriving(SimpleQueue[int]):
        waits = 0

        def get(self, block: bool = True, timeout: float | None = None) -> int:
            self.waits += 1
            if self.waits == 1:
                assert timeout is not None
                assert 0 < timeout <= 1
                raise Empty
            return signal.SIGTERM

    assert _next(Arriving()) == signal.SIGTERM
