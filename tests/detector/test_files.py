"""Files and folders are written whole or not at all."""

import os
from pathlib import Path

import pytest

from detector.errors import BundleError, InputError
from detector.files import new_folder, read_file, refuse_existing, replacing, write_bytes


class Broken(Exception):
    """What goes wrong in the middle."""


def break_off(path: Path) -> None:
    path.write_bytes(b"half of the new")
    raise Broken


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "file"
    write_bytes(file, b"old")
    write_bytes(file, b"new")
    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_in_the_middle_leaves_the_old_file_or_none(tmp_path: Path, existing: bool) -> None:
    file = tmp_path / "file"
    if existing:
        file.write_bytes(b"old")
    with pytest.raises(Broken), replacing(file) as part:
        break_off(part)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"old"] if existing else [])


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    with replacing(file) as part:
        part.write_bytes(b"new")
        assert file.read_bytes() == b"old"
    assert file.read_bytes() == b"new"


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    with new_folder(folder) as part:
        (part / "file").write_bytes(b"content")
        assert not folder.exists()
    assert (folder / "file").read_bytes() == b"content"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failure_in_the_middle_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Broken), new_folder(tmp_path / "folder") as part:
        break_off(part / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with new_folder(folder) as part:
        (part / "file").write_bytes(b"content")
    assert (folder / "file").read_bytes() == b"content"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_bytes(b"old")
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    for path in (file, folder):
        with pytest.raises(InputError, match=rf"^{path}: expected a new folder, found an existing one"):
            refuse_existing(path)
        with pytest.raises(InputError, match="expected a new folder"), new_folder(path):
            pytest.fail("was let in")
    assert (folder / "file").read_bytes() == b"old"


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with pytest.raises(InputError, match="expected a new folder"), new_folder(folder):
        write_bytes(folder / "file", b"theirs")
    assert [path.read_bytes() for path in folder.iterdir()] == [b"theirs"]
    assert list(tmp_path.iterdir()) == [folder]


def test_whatever_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "path"

    def found() -> str:
        with pytest.raises(BundleError) as caught:
            read_file(path, BundleError, limit=4)
        return str(caught.value)

    assert found() == "expected a file, found none"
    path.mkdir()
    assert found() == "expected a file, found a folder"
    path.rmdir()
    os.mkfifo(path)  # opening one would wait for a writer
    assert found() == "expected a file, found something else"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert found() == "expected a file, found none"
    path.unlink()
    path.write_bytes(b"12345")
    assert found() == "expected at most 4 bytes, found 5"
    path.write_bytes(b"1234")
    assert read_file(path, BundleError, limit=4) == b"1234"
    assert read_file(path, BundleError) == b"1234"
