"""Values read from files that change: always the newest that could be read, and read no more than needed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.errors import InputError
from serving.fresh import Fresh


class Reading:
    """Reads a file, counts, and does something in the middle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> str:
        self.count += 1
        content = self.path.read_text()
        self.meanwhile()
        if content == "bad":
            raise InputError(f"{self.path}: bad")
        return content


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    (tmp_path / "file").write_text("one")
    return Reading(tmp_path / "file")


def test_what_has_not_changed_is_read_once(reading: Reading) -> None:
    fresh = Fresh([reading.path], reading)
    assert [fresh.get() for _ in range(3)] == ["one"] * 3
    assert reading.count == 1


def test_what_has_changed_is_read_again_once(reading: Reading) -> None:
    fresh = Fresh([reading.path], reading)
    reading.path.write_text("two!")
    assert [fresh.get() for _ in range(3)] == ["two!"] * 3
    assert reading.count == 2


def test_a_change_of_the_same_size_and_time_is_seen_by_the_file_being_another(reading: Reading, tmp_path: Path) -> None:
    fresh = Fresh([reading.path], reading)
    times, other = (reading.path.stat().st_atime_ns, reading.path.stat().st_mtime_ns), tmp_path / "other"
    other.write_text("two")
    os.utime(other, ns=times)
    other.replace(reading.path)
    assert fresh.get() == "two"


def test_what_cannot_be_read_leaves_the_old_and_is_told_once(
    reading: Reading, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = Fresh([reading.path], reading)
    reading.path.write_text("bad")
    assert [fresh.get() for _ in range(3)] == ["one"] * 3
    assert reading.count == 2
    assert caplog.text.count("bad; what was read before stays in force") == 1
    reading.path.write_text("fine")
    assert fresh.get() == "fine"


def test_what_changes_while_it_is_read_is_read_once_more(reading: Reading) -> None:
    fresh = Fresh([reading.path], reading)
    reading.path.write_text("half")
    reading.meanwhile = lambda: reading.path.write_text("whole")
    assert fresh.get() == "one"  # "half" may be a mixture
    reading.meanwhile = lambda: None
    assert fresh.get() == "whole"


def test_the_first_time_it_has_to_be_readable(reading: Reading) -> None:
    reading.path.write_text("bad")
    with pytest.raises(InputError, match="bad"):
        Fresh([reading.path], reading)
