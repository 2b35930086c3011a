"""The score log: one JSON line for each answered image, without the image, for `ledgate check --scores`.

A watcher hands the scores of a batch to a thread that writes them. Between the two is a bounded queue:
where the disk cannot keep up, scores are dropped and counted, and no caller waits. The count is written
into the file too, so that who reads it knows that something is lacking.

Each line stands by itself, so a file may be cut anywhere between lines; it is opened to append, so
logrotate has to copy and truncate (`copytruncate`). Exact scores guide an attacker: only the file's owner
may read it.
"""

import json
import logging
import math
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.errors import InputError
from detector.prediction import Floats, Ints
from detector.scorefile import DIGITS
from detector.scores import DEFAULT_SCORE
from serving.closing import Closing
from serving.detecting import Detecting
from serving.watching import Run

log = logging.getLogger(__name__)

_MAX_WAITING: Final = 65_536  # images; about 100 bytes each
# How long the end of the server waits for what has been queued to be written.
_CLOSE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Batch:
    """The scores of a batch, not yet text; nothing else of it, so that its images and probabilities can go.

    Attributes:
        head: What its lines have in common.
        labels: (N,).
        score: (N,).
        flags: (N,), or None without a calibration.
    """

    head: dict[str, Any]
    labels: Ints
    score: Floats
    flags: NDArray[np.bool_] | None


class ScoreLog(Closing):
    """The log of one server, from its making until `close`.

    Args:
        path: The file; what is in it stays.
        max_waiting: Most images that wait to be written.

    Attributes:
        written: Scores in the file, by this server.
        dropped: Scores that were to be written and are not: the queue was full, or the disk.

    Raises:
        InputError: The file cannot be written to.
    """

    def __init__(self, path: Path, *, max_waiting: int = _MAX_WAITING) -> None:
        self.written = 0
        self.dropped = 0
        self._path = path
        self._max_waiting = max_waiting
        self._told = 0
        self._lock = threading.Lock()
        self._images = 0
        self._failing = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        except OSError as error:
            raise InputError(f"{path}: expected a file to write to, found: {error.strerror}") from None
        self._waiting: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="score log", daemon=True)
        self._thread.start()

    def ran(self, run: Run) -> None:
        """Puts the scores of a batch into the queue, if there is room: a watcher of `serving.watching`."""
        verdicts = run.verdicts
        assert verdicts.score is not None
        count = len(verdicts)
        with self._lock:
            if self._images + count > self._max_waiting:
                self.dropped += count
                return
            self._images += count
        self._waiting.put(_Batch(_head(run.detector), verdicts.labels, verdicts.score, verdicts.adversarial))

    def close(self) -> None:
        """Writes what has been queued, and ends; what is not written in time is not."""
        self._waiting.put(None)
        self._thread.join(_CLOSE_S)
        if self.dropped:
            log.warning("%s: %d scores were dropped, %d written", self._path, self.dropped, self.written)

    def _work(self) -> None:
        """The thread that writes."""
        while (batch := self._waiting.get()) is not None:
            self._write(batch)
        self._tell_dropped()
        os.close(self._file)

    def _write(self, batch: _Batch) -> None:
        """Writes a batch; where that fails the log says so once, until it works again."""
        count = len(batch.score)
        if self._tell_dropped() and self._append("".join(f"{json.dumps(row)}\n" for row in _rows(batch))):
            self.written += count
        else:
            with self._lock:
                self.dropped += count
        with self._lock:
            self._images -= count

    def _tell_dropped(self) -> bool:
        """Writes how many scores have been dropped since it was last told; False where that fails."""
        with self._lock:
            new = self.dropped - self._told
        if not new:
            return True
        log.warning("%s: %d scores were dropped", self._path, new)
        if not self._append(f"{json.dumps({'time': _time(), 'dropped': new})}\n"):
            return False
        self._told += new
        return True

    def _append(self, text: str) -> bool:
        """Writes lines whole, or takes back what of them was written; False where it fails."""
        content = text.encode()
        before = os.fstat(self._file).st_size
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError as error:
            if not self._failing:
                log.error("%s: expected to write scores, found: %s", self._path, error.strerror)  # noqa: TRY400
            self._failing = True
            with suppress(OSError):
                os.ftruncate(self._file, before)
            return False
        self._failing = False
        return True


def _head(detector: Detecting) -> dict[str, Any]:
    """What the lines of a batch have in common: when, and what was asked."""
    calibration = detector.bundle.calibration
    return {
        "time": _time(),
        "bundle": detector.bundle.digest[:DIGITS],
        "calibration": None if calibration is None else calibration.digest[:DIGITS],
        "score_name": DEFAULT_SCORE if calibration is None else calibration.score,
        "path": str(detector.execution_path),
    }


def _rows(batch: _Batch) -> Iterator[dict[str, Any]]:
    """A line for each image. JSON has no number for infinity."""
    flags = [None] * len(batch.score) if batch.flags is None else batch.flags.tolist()
    for label, score, flag in zip(batch.labels.tolist(), batch.score.tolist(), flags, strict=True):
        number = score if math.isfinite(score) else str(score).replace("inf", "Infinity")
        yield {**batch.head, "class": label, "score": number, "flagged": flag}


def _time() -> str:
    """Now, in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
