"""`ledgate serve --dry-run`: all that could keep a server from starting, told at once."""

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from detector.bundle import write_bundle
from ledgate.cli import main
from protos.ledgate.v1 import classifier_pb2 as pb
from tests.serving.conftest import SHAPE, member
from tests.serving.operating import OPENSSL, self_signed

TOKEN = "alice-0123456789-abc"


def checks(capsys: pytest.CaptureFixture[str], status: int, *words: str | Path) -> tuple[dict[str, Any], str]:
    """What was found of each thing that was tried, and the line on standard error."""
    assert main(["serve", *map(str, words), "--dry-run", "--device=cpu", "--threads=1", "--json"]) == status
    out, error = capsys.readouterr()
    return {check["name"]: check for check in json.loads(out)}, error


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "tokens").write_text(TOKEN)
    return tmp_path / "tokens"


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")
def test_all_is_well(folder: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = self_signed(tmp_path, "server")
    words = ("--port=0", "--metrics-port=0", f"--tls-cert={pair.cert}", f"--tls-key={pair.key}")
    more = (f"--token-file={tokens}", f"--audit={tmp_path / 'trail'}", "--traces")
    found, error = checks(capsys, 0, folder / "tiny", folder / "twins", *words, *more)
    assert error == ""
    assert {name: check["passed"] for name, check in found.items()} == {
        f"bundle {folder / 'tiny'}": True,
        f"bundle {folder / 'twins'}": True,
        "names": True,
        "port 127.0.0.1:0": True,
        "metrics port 127.0.0.1:0": True,
        "certificates": True,
        f"tokens {tokens}": True,
        f"audit {tmp_path / 'trail'}": True,
        "traces": True,
    }
    assert found[f"bundle {folder / 'tiny'}"]["found"].endswith(
        ", calibrated, its probes reproduced: score moved by up to 0, logits by up to 0, 0 of 32 flags turned"
    )
    assert found[f"tokens {tokens}"]["found"] == "1 tokens"


def test_everything_that_is_wrong_is_told_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder / "tiny", broken)
    (broken / "member_1.onnx").write_bytes(b"damaged")
    (tmp_path / "file").write_text("short")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        none = tmp_path / "none"
        words = (f"--port={port}", f"--tls-cert={none}", f"--tls-key={none}")
        more = (f"--token-file={tmp_path / 'file'}", f"--audit={tmp_path / 'file'}/trail")
        found, error = checks(capsys, 1, broken, *words, *more)
    assert not any(check["passed"] for check in found.values())
    assert "member_1.onnx" in found[f"bundle {broken}"]["found"]
    assert found[f"port 127.0.0.1:{port}"]["found"].endswith("expected a free port, found one in use")
    assert found["certificates"]["found"] == f"{none}: expected a file, found none"
    assert "expected a token of at least" in found[f"tokens {tmp_path / 'file'}"]["found"]
    (line,) = error.splitlines()
    assert line.startswith("ledgate serve: dry run: expected all 5 checks to pass, found that not: bundle ")


def test_a_port_in_use_for_metrics_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found, _ = checks(capsys, 1, folder / "tiny", "--port=0", f"--metrics-port={port}")
    assert [name for name, check in found.items() if not check["passed"]] == [f"metrics port 127.0.0.1:{port}"]


def test_a_message_limit_without_room_for_one_image_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((1, *SHAPE), np.uint8)
    tensor = pb.Tensor(dtype=pb.UINT8, shape=image.shape, data=image.tobytes())
    least = pb.ClassifyRequest(tensor=tensor).ByteSize()
    checks(capsys, 0, folder / "tiny", "--port=0", f"--max-message-mb={least / 2**20}")
    found, _ = checks(capsys, 1, folder / "tiny", "--port=0", f"--max-message-mb={(least - 1) / 2**20}")
    expected = f"max_message_mb: expected room for one image, which takes {least} bytes, found {least - 1} bytes"
    assert found[f"bundle {folder / 'tiny'}"]["found"] == expected


def test_a_score_log_is_tried_and_not_made(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new" / "scores.jsonl"
    found, _ = checks(capsys, 0, folder / "tiny", "--port=0", f"--score-log={new}")
    assert found[f"score log {new}"]["found"] == f"{new}, which is not there yet"
    assert not new.parent.exists()
    old = tmp_path / "old.jsonl"
    old.write_text("a line\n")
    checks(capsys, 0, folder / "tiny", "--port=0", f"--score-log={old}")
    assert old.read_text() == "a line\n"


@pytest.mark.parametrize("name", ["old.jsonl/scores.jsonl", "."])
def test_a_score_log_that_cannot_be_made_is_seen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "old.jsonl").write_text("")
    path = tmp_path / name
    found, _ = checks(capsys, 1, folder / "tiny", "--port=0", f"--score-log={path}")
    assert found[f"score log {path}"]["found"].startswith(f"{path}: expected a file to write to, found")


def test_two_bundles_of_one_name_are_seen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    (tmp_path / "link").symlink_to(folder / "twins")
    bundles = (folder / "tiny", folder / "twins", tmp_path / "link")
    found, _ = checks(capsys, 0, *bundles, "--port=0")
    assert found["names"]["found"] == "tiny, twins, link"
    found, _ = checks(capsys, 1, folder / "tiny", tmp_path / "tiny", "--port=0")
    assert [name for name, check in found.items() if not check["passed"]] == ["names"]
    assert found["names"]["found"] == "models: expected a name for each, found 'tiny' 2 times"
    found, _ = checks(capsys, 0, folder / "tiny", f"second={tmp_path / 'tiny'}", "--port=0")
    assert found["names"]["found"] == "tiny, second"
    assert found[f"bundle second={tmp_path / 'tiny'}"]["found"].startswith("second, 3 members on ")


def test_traces_without_opentelemetry_are_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "serving.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    found, _ = checks(capsys, 1, folder / "tiny", "--port=0", "--traces")
    assert [name for name, check in found.items() if not check["passed"]] == ["traces"]
    expected = "expected OpenTelemetry, found no opentelemetry; pip install 'ledgate[traces]'"
    assert found["traces"]["found"] == expected


def test_tokens_in_plaintext_are_seen(folder: Path, tokens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = checks(capsys, 1, folder / "tiny", "--host=0.0.0.0", "--port=0", f"--token-file={tokens}")
    assert found[f"tokens {tokens}"]["found"].startswith("token_file: expected TLS on 0.0.0.0")


def test_the_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(folder / "twins"), "--port=0", "--dry-run", "--device=cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert (
        first == f"ok      bundle {folder / 'twins'}: twins, 3 members on CPUExecutionProvider float32, not calibrated"
    )
    assert second == "ok      port 127.0.0.1:0: any free one"


def test_a_model_that_fails_its_first_run_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load_from_string(member(1, fragile=True))
    (distance,) = [node for node in model.graph.node if node.op_type == "Sub"]
    distance.input[:] = ["pixel", "zero"]  # NaN where the last pixel is black
    labels = list("0123456789")
    write_bundle(tmp_path / "black", members=[member(0), model.SerializeToString()], labels=labels, provenance={})
    found, _ = checks(capsys, 1, tmp_path / "black", "--port=0")
    assert "expected numbers for black images" in found[f"bundle {tmp_path / 'black'}"]["found"]
