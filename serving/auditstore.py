"""Flagged inputs in a SQLite file: bounded, the oldest going first, and whole after a crash.

The bound is that of the file and of the journal that SQLite keeps beside it, together. Three quarters are the file's,
and SQLite itself lets it grow no further. The journal has the last quarter: it is emptied before a transaction that
finds it over a third of that, a third is for the entries of the transaction, and a third for whatever else it changes.
"""

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

from detector.errors import InputError

log = logging.getLogger(__name__)

FILE: Final = "audit.sqlite"
MIN_BYTES: Final = 1 << 20

_PAGE: Final = 4096
# What is left of a page that a row's text and image fill one after the other.
_FILLED: Final = _PAGE - 4
# What a row's numbers take, and what SQLite knows of it, generously.
_ROW: Final = 512
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
        request_id: The caller's, else the one that its call was given.
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
        """Bytes it takes in the file, at most: whole pages of its own, and a part of one that it shares."""
        values = astuple(self)
        text = sum(len(value.encode()) for value in values if isinstance(value, str))
        blobs = sum(len(value) for value in values if isinstance(value, bytes))
        return (-(-(_ROW + text + blobs) // _FILLED) + 1) * _PAGE


_NAMES: Final = [field.name for field in fields(Entry)]
_INSERT: Final = f"INSERT INTO flagged ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608
_OLDEST_GO: Final = "DELETE FROM flagged WHERE id IN (SELECT id FROM flagged ORDER BY id LIMIT ?)"


class AuditStore:
    """The file `audit.sqlite` of a folder, for one thread at a time.

    Args:
        folder: Made where it is lacking; only its owner may read what is in it.
        max_bytes: The bound of the file and its journal together; a file that is larger stays so until `fit`.

    Raises:
        InputError: It cannot be written to, or is something else.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        journal_bytes = max_bytes // 4
        self._file_bytes = max_bytes - journal_bytes
        self._portion_bytes = journal_bytes // 3
        self.path = folder / FILE
        self._journal = folder / f"{FILE}-wal"
        with self._refusing():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before SQLite makes it, readable by all.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            # A crash of the process loses nothing that was written; a power cut loses the last moments at most.
            self._database.execute(f"PRAGMA page_size = {_PAGE}")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            # Some builds of SQLite overwrite whatever is removed, and all of that would be in the journal.
            self._database.execute("PRAGMA secure_delete = FAST")
            self._database.execute(f"PRAGMA journal_size_limit = {MIN_BYTES}")
            self._database.execute(_SCHEMA)
            self._stop_growth()

    def fit(self) -> None:
        """Makes a file smaller that was allowed to be larger before: the oldest go.

        Until it is done, what remains takes its room again in the folder, and once more where temporary files are.

        Raises:
            InputError: It cannot be written to; the disk is full, for example.
        """
        with self._refusing():
            if self._pages("page_count") * _PAGE > self._file_bytes:
                log.info("%s: removing the oldest, since it is larger than its bound", self.path)
                with self._transaction():
                    self._make_room(0)
                self._database.execute("VACUUM")
                self._stop_growth()
            self._empty_journal()

    def portions(self, entries: Iterable[Entry]) -> Iterator[list[Entry]]:
        """Entries in order, as many at a time as one transaction has room for."""
        portion: list[Entry] = []
        size = 0
        for entry in entries:
            if portion and size + entry.size > self._portion_bytes:
                yield portion
                portion, size = [], 0
            portion.append(entry)
            size += entry.size
        if portion:
            yield portion

    def write(self, portion: Sequence[Entry]) -> int:
        """Writes entries, all or none, and removes as many of the oldest as it takes.

        Args:
            portion: One of `portions`.

        Returns:
            How many were written: one that is too large for any transaction is not.

        Raises:
            sqlite3.Error: The disk is full, for example, or somebody's reading has kept the journal for too long.
        """
        fitting = [entry for entry in portion if entry.size <= self._portion_bytes]
        if self._journal_size() > self._portion_bytes and not self._empty_journal():
            raise sqlite3.OperationalError("the journal is full, and a reader keeps it from being emptied")
        with self._transaction():
            self._make_room(sum(entry.size for entry in fitting))
            self._database.executemany(_INSERT, map(astuple, fitting))
        return len(fitting)

    def close(self) -> None:
        """Closes the file; what SQLite keeps beside it is gone."""
        self._database.close()

    def _make_room(self, size: int) -> None:
        """Removes the oldest until so many bytes fit."""
        while (excess := self._used() + size - self._file_bytes) > 0:
            (count,) = self._database.execute("SELECT count(*) FROM flagged").fetchone()
            if not count:
                return
            gone = max(1, min(count, count * excess // max(1, self._used())))
            self._database.execute(_OLDEST_GO, [gone])

    def _used(self) -> int:
        """Bytes of the file that hold something."""
        return (self._pages("page_count") - self._pages("freelist_count")) * _PAGE

    def _pages(self, name: str) -> int:
        """A number of pages that SQLite knows."""
        (count,) = self._database.execute(f"PRAGMA {name}").fetchone()
        return int(count)

    def _stop_growth(self) -> None:
        """Has SQLite refuse what would make the file larger than its share; one that is larger may stay as it is."""
        self._database.execute(f"PRAGMA max_page_count = {self._file_bytes // _PAGE}")

    def _journal_size(self) -> int:
        """Bytes of the journal."""
        return self._journal.stat().st_size if self._journal.exists() else 0

    def _empty_journal(self) -> bool:
        """Brings what is in the journal into the file; False where a reader needs it as it is."""
        busy, *_ = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Tells an operator what is wrong with the file."""
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path}: expected a file to write to, found: {error.strerror}") from None
        except sqlite3.Error as error:
            raise InputError(f"{self.path}: expected a database to write to, found: {error}") from None
