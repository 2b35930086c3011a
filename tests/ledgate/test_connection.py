"""`ledgate classify` against a real `ledgate serve` that wants TLS and a token, and what operators see of it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from detector.bundle import Bundle
from detector.imageset import ImageSet
from ledgate.cli import main
from tests.conftest import make_images
from tests.serving.operating import OPENSSL, Pair, self_signed

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")

TOKEN = "alice-0123456789-abc"
PATIENCE_S = 60.0
# What a shell has that says nothing of gRPC's own words.
QUIET = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("pair"), "server")


@contextmanager
def served(bundle: Bundle, *words: str) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """What the server says when it is ready; afterwards its log, line by line."""
    command = [sys.executable, "-m", "ledgate", "serve", str(bundle.path), "--port=0", "--json", "--device=cpu", *words]
    log: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=QUIET) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        try:
            yield json.loads(line), log
        finally:
            process.send_signal(signal.SIGTERM)
            log += process.communicate(timeout=PATIENCE_S)[1].splitlines()
    assert process.returncode == 0, log


def test_all_of_it_together(calibrated: Bundle, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, tokens = tmp_path / "some.npz", tmp_path / "tokens"
    ImageSet(images=make_images(5)).save(images)
    tokens.write_text(f"{TOKEN} alice")
    assert main(["classify", str(calibrated.path), str(images), "--json", "--device=cpu"]) == 0
    embedded = json.loads(capsys.readouterr().out)
    words = (f"--tls-cert={pair.cert}", f"--tls-key={pair.key}", f"--token-file={tokens}", "--metrics-port=0")
    with served(calibrated, *words, "--access-log", "--log-format=json", f"--audit={tmp_path / 'trail'}") as (
        ready,
        log,
    ):
        call = ("classify", ready["address"], str(images), "--json")
        assert main([*call, f"--tls-ca={pair.cert}", f"--token-file={tokens}"]) == 0
        assert json.loads(capsys.readouterr().out) == embedded
        for lacking, expected in (
            ([f"--tls-ca={pair.cert}"], "authorization: expected 'Bearer TOKEN', found nothing"),
            ([f"--token-file={tokens}"], "expected a server, found nobody who answers"),
            (["--tls"], "expected a server, found nobody who answers"),
        ):
            assert main([*call, *lacking]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert expected in line
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{ready['metrics']}") as answer:
            assert b"ledgate_images_total" in answer.read()
    lines = [json.loads(line) for line in log]  # of what failed before it was a call too: gRPC's core says nothing
    accesses = [line for line in lines if line["logger"] == "ledgate.access"]
    assert {line["code"] for line in accesses if line.get("caller") == "alice"} == {"OK"}
    assert {line["code"] for line in accesses if "caller" not in line} == {"UNAUTHENTICATED"}
    assert (tmp_path / "trail" / "audit.sqlite").is_file()


def test_a_server_that_is_not_trusted_is_one_line_with_what_to_look_at(
    calibrated: Bundle, pair: Pair, tmp_path: Path
) -> None:
    images, other = tmp_path / "some.npz", self_signed(tmp_path, "other")
    ImageSet(images=make_images(1)).save(images)
    said = []
    with served(calibrated, f"--tls-cert={pair.cert}", f"--tls-key={pair.key}") as (ready, log):
        for words in ([], [f"--tls-ca={other.cert}"]):
            command = [sys.executable, "-m", "ledgate", "classify", ready["address"], str(images), *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=QUIET)
            assert (done.returncode, done.stdout) == (1, "")
            said += done.stderr.splitlines()
    without_tls, untrusted = said
    assert "; if it speaks TLS, say --tls-ca, and --tls-cert where it wants one (tried 5 times)" in without_tls
    assert "CERTIFICATE_VERIFY_FAILED" in untrusted
    assert "; if the server does not speak TLS, leave --tls-ca out; if it does, --tls-ca has to lead to" in untrusted
    assert log == [line for line in log if " INFO " in line]  # of gRPC's core, which has a form of its own, nothing


def test_the_line_for_people_says_where_the_metrics_are(calibrated: Bundle) -> None:
    command = [sys.executable, "-m", "ledgate", "serve", str(calibrated.path), "--port=0", "--metrics-port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert ", metrics on 127.0.0.1:" in line


def test_options_of_tls_that_do_not_fit_are_one_line(
    calibrated: Bundle, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "some.npz"
    ImageSet(images=make_images(1)).save(images)
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    for words, status, expected in (
        (["localhost:1", f"--tls-cert={pair.cert}"], 2, "tls: expected key beside cert, found none"),
        (["localhost:1", f"--tls-ca={tmp_path / 'none'}"], 1, f"{tmp_path / 'none'}: expected a file, found none"),
        (["example.org:1", f"--token-file={pair.key}"], 1, f"{pair.key}: line 1: expected a token"),
        (["example.org:1", f"--token-file={tokens}"], 2, "token: expected TLS on the way to example.org:1, found none"),
    ):
        assert main(["classify", *words, str(images)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ledgate classify: {expected}")
