"""The score log: what is written, and that no answer waits for it."""

import json
import math
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.check import origin_of
from detector.detector import Detector
from detector.errors import InputError
from detector.scorefile import Scores
from ledgate.cli import main
from serving.client import Client
from serving.scorelog import ScoreLog
from serving.ticket import Ticket
from serving.watching import Run
from tests.serving.conftest import PATIENCE_S, picture
from tests.serving.operating import operated


def run_of(detector: Detector, *pictures: int) -> Run:
    images = np.stack([picture(number) for number in pictures])
    verdicts = detector.classify(images)
    name = detector.bundle.name
    return Run(model=name, detector=detector, tickets=[Ticket(images)], verdicts=verdicts, begun_s=0.0, ended_s=0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line_for_each_image_and_no_image(tiny: Detector, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.jsonl"
    one, two = run_of(tiny, 1, 2, 3), run_of(tiny, 4)
    with ScoreLog(path) as log:
        log.ran(one)
        log.ran(two)
    assert (log.written, log.dropped) == (4, 0)
    calibration = tiny.bundle.calibration
    assert calibration is not None
    found = lines(path)
    for row, verdicts, index in zip(found, [one.verdicts] * 3 + [two.verdicts], [0, 1, 2, 0], strict=True):
        assert verdicts.score is not None
        assert verdicts.adversarial is not None
        assert row.pop("time").endswith("+00:00")
        assert row == {
            "bundle": tiny.bundle.digest[:16],
            "calibration": calibration.digest[:16],
            "score_name": "log_diversity",
            "path": "CPUExecutionProvider float32",
            "class": int(verdicts.labels[index]),
            "score": float(verdicts.score[index]),
            "flagged": bool(verdicts.adversarial[index]),
        }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_minus_infinity_and_no_calibration(twins: Detector, tmp_path: Path) -> None:
    run = run_of(twins, 1, 2)
    with ScoreLog(tmp_path / "log.jsonl") as log:
        log.ran(run)
    assert run.verdicts.score is not None
    assert run.verdicts.score.tolist() == [-math.inf, -math.inf]
    rows = lines(tmp_path / "log.jsonl")
    assert [(row["score"], row["flagged"], row["calibration"]) for row in rows] == [("-Infinity", None, None)] * 2


def test_what_is_there_stays(tiny: Detector, tmp_path: Path) -> None:
    for count in (1, 2):
        with ScoreLog(tmp_path / "log.jsonl") as log:
            log.ran(run_of(tiny, count))
    assert len(lines(tmp_path / "log.jsonl")) == 2


class Stuck:
    """A disk that does not answer until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        self._write = os.write
        monkeypatch.setattr("serving.scorelog.os.write", self)

    def __call__(self, file: int, content: bytes) -> int:
        self.begun.set()
        assert self.free.wait(PATIENCE_S)
        return self._write(file, content)


def test_a_disk_that_is_stuck_drops_scores_and_blocks_nobody(
    tiny: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Stuck(monkeypatch)
    log = ScoreLog(tmp_path / "log.jsonl", max_waiting=5)
    log.ran(run_of(tiny, 1, 2))
    assert disk.begun.wait(PATIENCE_S)
    for number in range(3, 9):  # room for three more, beside the two that are being written
        log.ran(run_of(tiny, number))
    assert log.dropped == 3
    disk.free.set()
    log.close()
    rows = lines(tmp_path / "log.jsonl")
    assert [row["dropped"] for row in rows if "dropped" in row] == [3]
    assert (log.written, len([row for row in rows if "score" in row])) == (5, 5)
    found = Scores.load(tmp_path / "log.jsonl", origin_of(tiny.bundle))
    assert (len(found), found.dropped, found.live, found.told) == (5, 3, True, True)
    assert "3 scores were dropped" in caplog.text


class Short:
    """A disk with room for so many bytes, which then is full until some are freed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.refused = threading.Semaphore(0)
        self._write = os.write
        monkeypatch.setattr("serving.scorelog.os.write", self)

    def __call__(self, file: int, content: bytes) -> int:
        if not self.room:
            self.refused.release()
            raise OSError(28, "No space left on device")
        written = self._write(file, content[: self.room])
        self.room -= written
        return written


def test_a_full_disk_leaves_whole_lines_and_is_told_once(
    tiny: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Short(monkeypatch, room=500)  # two lines and part of a third
    log = ScoreLog(tmp_path / "log.jsonl")
    for number in range(5):
        log.ran(run_of(tiny, number))
    for _ in range(3):  # the third line, and that it was dropped, twice
        assert disk.refused.acquire(timeout=PATIENCE_S)
    disk.room = 10_000
    log.ran(run_of(tiny, 9))
    log.close()
    rows = lines(tmp_path / "log.jsonl")
    assert sum("score" in row for row in rows) == log.written == 6 - log.dropped
    assert sum(row.get("dropped", 0) for row in rows) == log.dropped > 0
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in errors] == [
        f"{tmp_path / 'log.jsonl'}: expected to write scores, found: No space left on device"
    ]


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path}: expected a file to write to, found: Is a directory"):
        ScoreLog(tmp_path)


def test_a_server_logs_what_it_answers_and_check_reads_it(
    tiny: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.jsonl"
    images = np.stack([picture(number) for number in range(40)])
    with (
        operated(tiny, score_log=path) as (server, _),
        Client(server.address, timeout_s=PATIENCE_S) as client,
    ):
        verdicts = client.classify(images)
    found = Scores.load(path, origin_of(tiny.bundle))
    # The parts of one call may run at the same time, and are written as they end.
    assert verdicts.score is not None
    assert found.classes is not None
    logged, told = np.argsort(found.values), np.argsort(verdicts.score)
    np.testing.assert_array_equal(found.values[logged], verdicts.score[told])
    np.testing.assert_array_equal(found.classes[logged], verdicts.labels[told])
    assert main(["check", str(tiny.bundle.path), "--scores", str(path), "--json"]) in (0, 3)
    document = json.loads(capsys.readouterr().out)
    assert document["live"] is True
    assert verdicts.adversarial is not None
    assert document["flagged"]["count"] == verdicts.adversarial.sum()


def test_the_option_reaches_the_server_and_off_is_the_default(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "ledgate", "serve", folder / "tiny", "--port=0", "--json", "--device=cpu"]
    with subprocess.Popen(
        [*map(str, command), f"--score-log={path}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            with Client(address, timeout_s=PATIENCE_S) as client:
                client.classify(np.stack([picture(1), picture(2)]))
        finally:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert len(lines(path)) == 2


def test_a_dry_run_tries_the_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", str(folder / "tiny"), "--port=0", "--device=cpu", "--dry-run", "--json"]
    assert main([*words, f"--score-log={tmp_path}"]) == 1
    found = {check["name"]: check["passed"] for check in json.loads(capsys.readouterr().out)}
    assert found[f"score log {tmp_path}"] is False
