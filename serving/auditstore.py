"""Flagged inputs in a SQLite file: bounded, the oldest going first, and whole after a crash."""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from detector.errors import InputError

FILE: Final = "audit.sqlite"
MIN_BYTES: Final = 1 << 20

_PAGE: Final = 4096
# What a row takes beside its image, generously.
_ROW: Final = 2048
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS flagged (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time REAL NOT NULL,
  model TEXT NOT NULL,
  bundle_digest TEXT NOT NULL,
  calibration_digest TEXT NOT NULL,
  request_id TEXT NOT NULL,
  image_index INTEGER NOT NULL,
  label TEXT NOT NULL,
  probability REAL NOT NULL,
  score REAL NOT NULL,
  p_value REAL,
  format TEXT NOT NULL,
  image BLOB NOT NULL
)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A flagged input: one row of the table `flagged`.

    Attributes:
        time: When it was answered, in seconds since 1970.
        model: Name of the model.
        bundle_digest: Of its bundle.
        calibration_digest: Of the calibration that flagged it.
        request_id: The caller's; empty where it gave none.
        image_index: Which image of the request.
        label: The predicted class.
        probability: Of that class.
        score: What lay below the threshold.
        p_value: Conformal.
        format: Of `image`: `png` or `npz`.
        image: The file.
    """

    time: float
    model: str
    bundle_digest: str
    calibration_digest: str
    request_id: str
    image_index: int
    label: str
    probability: float
    score: float
    p_value: float | None
    format: str
    image: bytes

    @property
    def size(self) -> int:
        """Bytes it takes, at most."""
        return _ROW + -(-len(self.image) // _PAGE + 1) * _PAGE


_NAMES: Final = [field.name for field in fields(Entry)]
_INSERT: Final = f"INSERT INTO flagged ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608
_OLDEST_GO: Final = "DELETE FROM flagged WHERE id IN (SELECT id FROM flagged ORDER BY id LIMIT ?)"


class AuditStore:
    """The file `audit.sqlite` of a folder, for one thread at a time.

    Args:
        folder: Made where it is lacking; only its owner may read what is in it.
        max_bytes: The file's bound.

    Raises:
        InputError: It cannot be written to, or is something else.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.path = folder / FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before SQLite makes it, readable by all.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            # A crash of the process loses nothing that was written; a power cut loses the last moments at most.
            self._database.execute(f"PRAGMA page_size = {_PAGE}")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(f"PRAGMA journal_size_limit = {MIN_BYTES}")
            self._database.execute(_SCHEMA)
        except OSError as error:
            raise InputError(f"{self.path}: expected a file to write to, found: {error.strerror}") from None
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: expected a database to write to, found: {error}") from None

    def write(self, entries: Sequence[Entry]) -> int:
        """Writes entries, all or none, and removes as many of the oldest as it takes.

        Returns:
            How many were written: one that is larger than the bound is not.

        Raises:
            sqlite3.Error: The disk is full, for example.
        """
        fitting = [entry for entry in entries if entry.size <= self._max_bytes]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._make_room(sum(entry.size for entry in fitting))
            self._database.executemany(_INSERT, map(astuple, fitting))
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        return len(fitting)

    def close(self) -> None:
        """Closes the file; what SQLite keeps beside it is gone."""
        self._database.close()

    def _make_room(self, size: int) -> None:
        """Removes the oldest until so many bytes fit."""
        while (excess := self._used() + size - self._max_bytes) > 0:
            (count,) = self._database.execute("SELECT count(*) FROM flagged").fetchone()
            if not count:
                return
            gone = max(1, min(count, count * excess // max(1, self._used())))
            self._database.execute(_OLDEST_GO, [gone])

    def _used(self) -> int:
        """Bytes of the file that hold something."""
        (pages,), (free,) = (
            self._database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count")
        )
        return int(pages - free) * _PAGE
