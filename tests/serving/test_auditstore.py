"""The file of the audit trail: how large it and its journal become, whatever is written, and what has to go."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.auditstore import AuditStore, Entry
from tests.serving.test_audit import MB, entry, rows


def folder_size(folder: Path) -> int:
    """The file with all that SQLite keeps beside it."""
    return sum(file.stat().st_size for file in folder.iterdir())


def keep(store: AuditStore, *entries: Entry) -> int:
    """Writes entries as the trail does; the bound holds after each transaction."""
    return sum(store.write(portion) for portion in store.portions(entries))


def numbers(folder: Path) -> list[int]:
    """Which entries are in the file."""
    return [int(row["time"]) for row in rows(folder)]


@pytest.fixture
def large(tmp_path: Path) -> Iterator[AuditStore]:
    """A file of 4 MB, still open, and all of it in its journal."""
    store = AuditStore(tmp_path, max_bytes=64 * MB)
    store._database.execute("PRAGMA wal_autocheckpoint = 0")
    for start in range(0, 400, 20):
        store.write([entry(number) for number in range(start, start + 20)])
    assert folder_size(tmp_path) > 4 * MB
    yield store
    store.close()


def test_the_file_keeps_to_its_bound_and_the_oldest_go_first(tmp_path: Path) -> None:
    store = AuditStore(tmp_path, max_bytes=MB)
    for start in range(0, 1000, 10):
        assert keep(store, *[entry(number) for number in range(start, start + 10)]) == 10
        assert folder_size(tmp_path) <= MB
    store.close()
    found = numbers(tmp_path)
    assert found == list(range(found[0], 1000))
    assert 60 < len(found) < 80  # of 10,000 bytes each


@pytest.mark.parametrize("bound", [MB, 3 * MB])
def test_the_bound_holds_whatever_the_sizes(tmp_path: Path, bound: int) -> None:
    draw = np.random.default_rng(0)
    store = AuditStore(tmp_path, max_bytes=bound)
    sizes = np.exp(draw.uniform(0, np.log(bound // 14), 1500)).astype(int)
    written, number = 0, 0
    while number < len(sizes):
        some = [entry(number + index, size=int(size)) for index, size in enumerate(sizes[number : number + 32])]
        written += keep(store, *some)
        assert folder_size(tmp_path) <= bound
        number += len(some)
    store.close()
    found = numbers(tmp_path)
    assert written == len(sizes)
    assert found == list(range(found[0], len(sizes)))
    assert bound // 2 < folder_size(tmp_path) <= bound


@pytest.mark.parametrize("size", [0, 400, 3300, 3900, 4092, 4096, 8000, 10_000, 65_000, 65_536])
@pytest.mark.parametrize("request_id", ["", "z" * 256, "\N{SNOWMAN}" * 20_000])
def test_an_entry_takes_no_more_than_its_size(tmp_path: Path, size: int, request_id: str) -> None:
    store = AuditStore(tmp_path, max_bytes=16 * MB)
    store.write([entry(0)])
    before = store._used()
    some = [entry(number, size=size, request_id=request_id) for number in range(10)]
    assert store.write(some) == 10
    assert store._used() - before <= sum(each.size for each in some)
    assert some[0].size < size + len(request_id.encode()) + 9000
    store.close()


@pytest.mark.parametrize("field", ["image", "request_id", "label"])
def test_an_input_too_large_for_the_bound_is_not_written(tmp_path: Path, field: str) -> None:
    store = AuditStore(tmp_path, max_bytes=MB)
    content: Any = bytes(MB // 8) if field == "image" else "z" * (MB // 8)
    assert keep(store, entry(0), replace(entry(1), **{field: content}), entry(2)) == 2
    assert folder_size(tmp_path) <= MB
    store.close()
    assert numbers(tmp_path) == [0, 2]


def test_a_file_that_was_allowed_more_is_made_smaller(tmp_path: Path, large: AuditStore) -> None:
    large.close()
    store = AuditStore(tmp_path, max_bytes=MB)
    store.fit()
    assert folder_size(tmp_path) <= MB
    assert keep(store, entry(400)) == 1
    assert folder_size(tmp_path) <= MB
    store.close()
    found = numbers(tmp_path)
    assert found == list(range(found[0], 401))
    assert 60 < len(found) < 80


def test_so_is_one_with_a_journal_that_nobody_has_brought_in(tmp_path: Path, large: AuditStore) -> None:
    assert (tmp_path / "audit.sqlite-wal").stat().st_size > 4 * MB  # as after a crash
    store = AuditStore(tmp_path, max_bytes=MB)
    store.fit()
    assert folder_size(tmp_path) <= MB
    store.close()


def test_what_is_removed_does_not_fill_the_journal(tmp_path: Path, large: AuditStore) -> None:
    large.close()
    store = AuditStore(tmp_path, max_bytes=MB)
    with store._transaction():
        store._make_room(0)
    assert store._journal_size() < MB // 4  # though 3 MB have gone
    store.close()


def test_opening_alone_removes_nothing(tmp_path: Path, large: AuditStore) -> None:
    AuditStore(tmp_path, max_bytes=MB).close()
    assert numbers(tmp_path) == list(range(400))


def test_who_reads_for_long_does_not_make_the_journal_grow(tmp_path: Path) -> None:
    store = AuditStore(tmp_path, max_bytes=MB)
    store._database.execute("PRAGMA busy_timeout = 0")
    keep(store, *[entry(number) for number in range(100)])
    reader = sqlite3.connect(store.path, isolation_level=None)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM flagged").fetchone()

    def write_all() -> None:
        for number in range(100, 200):
            keep(store, entry(number))
            assert folder_size(tmp_path) <= MB

    with pytest.raises(sqlite3.OperationalError, match="a reader keeps it from being emptied"):
        write_all()
    assert folder_size(tmp_path) <= MB
    assert reader.execute("SELECT count(*) FROM flagged").fetchone() == before
    reader.close()
    write_all()
    store.close()
    assert numbers(tmp_path)[-1] == 199
