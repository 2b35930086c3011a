"""`ledgate bench` against a real server: what it prints, where, and with which exit status."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from detector.bundle import Bundle
from detector.detector import Detector
from detector.imageset import ImageSet
from ledgate.cli import main
from serving.certificates import Certificates
from serving.config import ServerConfig
from serving.server import Server
from tests.conftest import make_images
from tests.serving.operating import OPENSSL, operated, self_signed

TOKEN = "alice-0123456789-abc"
PATIENCE_S = 60.0
# The command, which hears Ctrl-C also where a shell has started the tests in the background, and so deaf to it.
HEARING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ledgate.cli import main
sys.exit(main())
"""
SHORT = ("--warm-up-s=0", "--calls=20", "--callers=2")


class Watched:
    """Counts batches, and says when there have been enough."""

    def __init__(self, enough: int) -> None:
        self.enough = threading.Event()
        self._left = enough

    def __call__(self, run: Any) -> None:
        self._left -= 1
        if self._left <= 0:
            self.enough.set()


@contextmanager
def served(model: "Bundle | Broken", watcher: Callable[[Any], None] | None = None) -> Iterator[str]:
    """The address of a server in this process."""
    watchers = [] if watcher is None else [watcher]
    with Server(ServerConfig(port=0), watchers=watchers) as server:
        server.start()
        server.open([model if isinstance(model, Broken) else Detector.open(model.path, device="cpu", threads=1)])
        yield server.address


def figures(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> Any:
    """What a run prints as JSON, which is all that it prints."""
    assert main(["bench", *words, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_closed_loop(calibrated: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with served(calibrated) as address:
        found = figures(capsys, address, *SHORT, "--batch=1,4", "--check")
    assert found["calls"] == {"begun": 20, "answered": 20, "failed": 0, "unfinished": 0}
    assert found["settings"]["load"] == {"closed": {"callers": 2}}
    assert found["model"]["bundle_digest"] == calibrated.digest
    assert found["in_flight"]["most"] == 2
    assert found["latency_ms"]["n"] == sum(each["n"] for each in found["latency_ms_by_batch"].values()) == 20
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
    assert found["images_per_s"] > found["calls_per_s"] > 0
    assert found["client_cpu"]["us_per_call"] > 0


def test_an_open_loop(calibrated: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with served(calibrated) as address:
        found = figures(capsys, address, "--rate=100", "--seed=4", "--warm-up-s=0.2", "--duration-s=1")
    assert found["settings"]["load"] == {"open": {"rate_per_s": 100.0, "seed": 4}}
    assert found["duration_s"] == pytest.approx(1.0)
    assert found["calls"]["begun"] == found["calls"]["answered"] == pytest.approx(100, abs=40)
    assert found["lag_ms"]["n"] == found["calls"]["begun"]


@pytest.mark.parametrize("form", ["uint8", "float32", "png"])
@pytest.mark.parametrize("transport", [(), ("--streams=2",)], ids=["unary", "streams"])
def test_images_of_a_file_are_flagged_as_the_detector_flags_them(
    form: str, transport: tuple[str, ...], calibrated: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = (make_images(20) * 255).astype("uint8")
    ImageSet(images=images).save(tmp_path / "some.npz")
    flags = Detector.open(calibrated.path, device="cpu").classify(images).adversarial
    assert flags is not None
    assert 0 < flags.sum() < len(images)
    with served(calibrated) as address:
        words = (f"--images={tmp_path / 'some.npz'}", f"--format={form}", "--check", *transport)
        found = figures(capsys, address, *SHORT, *words)
    assert found["flagged"] == {"images": int(flags.sum()), "of": 20, "share": flags.mean()}


def test_people_read_a_table(calibrated: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with served(calibrated) as address:
        assert main(["bench", address, *SHORT]) == 0
    caught = capsys.readouterr()
    assert caught.out.startswith(f"{address}: linear, 3 members, 10 classes, CPUExecutionProvider\nclosed loop, 2 ")
    assert "(20 answered, 0 failed)" in caught.out
    assert all(line.startswith("ledgate bench: warning: ") for line in caught.err.splitlines())


def test_without_a_calibration_no_answer_says_what_is_flagged(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(bundle) as address:
        assert figures(capsys, address, *SHORT)["flagged"] == {"images": 0, "of": 0, "share": None}


class Broken:
    """A detector that fails at every run."""

    def __init__(self, bundle: Bundle) -> None:
        self._detector = Detector.open(bundle.path, device="cpu", threads=1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def logits(self, images: Any) -> Any:
        raise RuntimeError("broken")


def test_errors_are_figures_and_no_answer_at_all_is_a_failure(
    calibrated: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(Broken(calibrated)) as address:
        assert main(["bench", address, *SHORT, "--json"]) == 1
    caught = capsys.readouterr()
    found = json.loads(caught.out)
    assert found["errors"] == {"INTERNAL": 20}
    assert found["error_details"] == {"INTERNAL": "internal error; the server's log says more"}
    assert found["calls_per_s"] == 0
    assert found["latency_ms"]["p50"] is None
    assert caught.err.splitlines()[-1] == "ledgate bench: calls: expected answers, found none to 20 calls"


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")
def test_tls_and_a_token(calibrated: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair, tokens = self_signed(tmp_path, "server"), tmp_path / "tokens"
    tokens.write_text(f"{TOKEN} alice")
    certificates = Certificates(cert=pair.cert, key=pair.key)
    detector = Detector.open(calibrated.path, device="cpu", threads=1)
    with operated(detector, certificates=certificates, token_file=tokens) as (server, _):
        ca, token = f"--tls-ca={pair.cert}", f"--token-file={tokens}"
        for transport in ((), ("--streams=1",)):
            found = figures(capsys, server.address, *SHORT, ca, token, *transport)
            assert found["calls"]["answered"] == 20
            assert found["settings"]["tls"] is True
            assert TOKEN not in json.dumps(found)
        assert main(["bench", server.address, *SHORT, ca]) == 1
    assert "expected 'Bearer TOKEN', found nothing" in capsys.readouterr().err


@pytest.mark.parametrize("load", ["--callers=2", "--rate=50"])
def test_ctrl_c_prints_what_was_measured(load: str, calibrated: Bundle) -> None:
    watched = Watched(enough=30)
    with served(calibrated, watched) as address:
        command = [sys.executable, "-c", HEARING, "bench", address, load, "--warm-up-s=0", "--duration-s=600"]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
            assert watched.enough.wait(PATIENCE_S)
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=PATIENCE_S)
    found = json.loads(out)
    assert bench.returncode == 130
    assert err.splitlines()[-1] == "ledgate bench: interrupted"
    assert found["interrupted"] is True
    assert found["calls"]["answered"] >= 20
    assert found["calls_per_s"] > 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--rate=1", "--callers=1"], 2, "--rate: expected without --callers, found both"),
        (["--calls=1", "--duration-s=1"], 2, "duration_s, calls: expected one of them, found both"),
        (["--callers=0"], 2, "callers: expected at least 1, found 0"),
        (["--rate=0"], 2, "rate: expected a positive number of calls a second, found 0"),
        (["--streams=0"], 2, "--streams: expected at least 1, found 0"),
        (["--deadline-s=0"], 2, "--deadline-s: expected a positive number of seconds, found 0"),
        (["--seed=-1"], 2, "--seed: expected at least 0, found -1"),
        (["--batch=1,300"], 1, "batch: expected 1 to 256 images a call, found 300"),  # of this server
        (["--images=none.npz"], 1, "none.npz: expected an images .npz, found no file"),
        (["--model=other"], 1, "other"),
    ],
    ids=[
        "two loops",
        "two ends",
        "no caller",
        "no rate",
        "no stream",
        "no deadline",
        "seed",
        "too many",
        "file",
        "model",
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], status: int, message: str, calibrated: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(calibrated) as address:
        assert main(["bench", address, *words]) == status
    caught = capsys.readouterr()
    assert caught.out == ""
    (line,) = caught.err.splitlines()
    assert line.startswith("ledgate bench: ")
    assert message in line


def test_batch_sizes_that_are_none_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "127.0.0.1:1", "--batch=1,two"])
    assert exit_.value.code == 2
    assert "expected numbers with commas between them, found '1,two'" in capsys.readouterr().err


def test_no_server_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "127.0.0.1:1"]) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    (line,) = caught.err.splitlines()
    assert line.startswith("ledgate bench: 127.0.0.1:1: ")
