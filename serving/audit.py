"""The audit trail: flagged inputs kept for a person to look at.

A watcher picks the flagged images of a batch and hands them to a thread that writes them. Between them
is a bounded queue: where the disk cannot keep up, or an attacker sends nothing else, inputs are dropped
and counted, and no caller waits.
"""

import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from detector.encoding import encode_image
from detector.errors import SettingError
from detector.imageset import Images
from serving.auditstore import MIN_BYTES, AuditStore, Entry
from serving.closing import Closing
from serving.ticket import Ticket
from serving.watching import Run

log = logging.getLogger(__name__)

_MAX_WAITING: Final = 256
_MAX_WAITING_BYTES: Final = 64 << 20
# Entries of one transaction.
_CHUNK: Final = 32
# How long the end of the server waits for what has been picked to be written.
_CLOSE_S: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What is kept.

    Attributes:
        folder: Where; it gets `audit.sqlite`.
        rate: Share of the flagged inputs that is kept, drawn at random.
        max_bytes: Bound of the file with its journal; the oldest go first.

    Raises:
        InputError: A number out of range.
    """

    folder: Path
    rate: float = 1.0
    max_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise SettingError(f"audit_rate: expected more than 0 and at most 1, found {self.rate}")
        if self.max_bytes < MIN_BYTES:
            raise SettingError(f"audit_max_bytes: expected at least {MIN_BYTES}, found {self.max_bytes}")


@dataclass(frozen=True, slots=True)
class _Picked:
    """A flagged image, not yet a file; the image is a copy, so that its request can go.

    Attributes:
        entry: Makes the entry from the file.
        image: (C, H, W).
        size: Bytes that it keeps in memory of its request.
    """

    entry: Callable[..., Entry]
    image: Images
    size: int


class Audit(Closing):
    """The trail of one server, from its making until `close`.

    Args:
        config: What is kept.
        draw: Uniform in [0, 1), for the sampling.

    Attributes:
        written: Inputs in the file, counting those that have had to go since.
        dropped: Inputs that were to be kept and are not: the queue was full, or the disk.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, config: AuditConfig, *, draw: Callable[[], float] = random.random) -> None:
        self.written = 0
        self.dropped = 0
        self._config = config
        self._draw = draw
        self._store = AuditStore(config.folder, max_bytes=config.max_bytes)
        self._store.fit()
        self._waiting: queue.Queue[_Picked | None] = queue.Queue()
        self._lock = threading.Lock()
        self._bytes = 0
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def ran(self, run: Run) -> None:
        """Picks the flagged images of a batch: a watcher of `serving.watching`."""
        flags = run.verdicts.adversarial
        if flags is None or not flags.any():
            return
        now_s = time.time()
        for ticket, rows in run.rows():
            for index in np.flatnonzero(flags[rows]).tolist():
                if self._config.rate == 1 or self._draw() < self._config.rate:
                    self._pick(run, ticket, index, rows.start + index, now_s)

    def settled(self) -> None:
        """Waits until all that has been picked is written or dropped."""
        self._waiting.join()

    def close(self) -> None:
        """Writes what has been picked, and ends; what is not written in time is not."""
        self._waiting.put(None)
        self._thread.join(_CLOSE_S)
        if self.dropped:
            log.warning("audit: %d flagged inputs were dropped, %d written", self.dropped, self.written)

    def _pick(self, run: Run, ticket: Ticket, index: int, row: int, now_s: float) -> None:
        """Puts an image into the queue, if there is room."""
        image = ticket.images[index]
        size = image.nbytes + len(ticket.request_id.encode())
        with self._lock:
            if self._waiting.qsize() >= _MAX_WAITING or self._bytes + size > _MAX_WAITING_BYTES:
                self.dropped += 1
                return
            self._bytes += size
        self._waiting.put(_Picked(_entry(run, ticket, index, row, now_s), image.copy(), size))

    def _work(self) -> None:
        """The thread that writes."""
        ended = False
        while not ended:
            chunk = list(self._chunk())
            ended = chunk[-1] is None
            self._write([picked for picked in chunk if picked is not None])
            for _ in chunk:
                self._waiting.task_done()
        self._store.close()

    def _chunk(self) -> Iterator[_Picked | None]:
        """Waits for one, and takes what else is there; nothing comes after None."""
        yield (picked := self._waiting.get())
        for _ in range(_CHUNK - 1):
            if picked is None or self._waiting.empty():
                return
            yield (picked := self._waiting.get())

    def _write(self, chunk: list[_Picked]) -> None:
        """Writes some; where that fails the log says so once, until it works again."""
        written = 0
        try:
            for portion in self._store.portions(map(_filled, chunk)):
                written += self._store.write(portion)
            self._failing = False
        except (sqlite3.Error, OSError) as error:
            if not self._failing:
                log.error("%s: expected to write flagged inputs, found: %s", self._store.path, error)  # noqa: TRY400
            self._failing = True
        with self._lock:
            self.written += written
            self.dropped += len(chunk) - written
            self._bytes -= sum(picked.size for picked in chunk)


def _entry(run: Run, ticket: Ticket, index: int, row: int, now_s: float) -> Callable[..., Entry]:
    """Everything but the file, which is made later; nothing of it holds the request's images."""
    verdicts, bundle = run.verdicts, run.detector.bundle
    assert verdicts.score is not None
    label = int(verdicts.labels[row])
    return partial(
        Entry,
        time=now_s,
        model=run.model,
        bundle_digest=bundle.digest,
        calibration_digest="" if bundle.calibration is None else bundle.calibration.digest,
        request_id=ticket.request_id,
        image_index=ticket.start + index,
        label=verdicts.class_names[row],
        probability=float(verdicts.probabilities[row, label]),
        score=float(verdicts.score[row]),
        p_value=None if verdicts.p_values is None else float(verdicts.p_values[row]),
    )


def _filled(picked: _Picked) -> Entry:
    """The entry with its file."""
    kind, file = encode_image(picked.image)
    return picked.entry(format=kind, image=file)
