"""Documents with a digest: every byte counts, and nothing but our own errors comes out."""

import hashlib
import math
from pathlib import Path
from typing import ClassVar

import pytest

from detector.document import Document, sha256
from detector.errors import BundleError, CalibrationError, LedgateError


class Note(Document):
    """A document to test with."""

    error: ClassVar[type[LedgateError]] = CalibrationError

    text: str
    numbers: tuple[float, ...] = ()
    digest: str = ""


NOTE = Note(text='with "digest": "" inside', numbers=(-math.inf, 0.1, 1e-300, math.inf))


def test_round_trip(tmp_path: Path) -> None:
    saved = NOTE.save(tmp_path / "note.json")
    assert saved == Note.load(tmp_path / "note.json")
    assert (saved.text, saved.numbers) == (NOTE.text, NOTE.numbers)


def test_the_digest_is_that_of_the_file_with_an_empty_digest(tmp_path: Path) -> None:
    saved = NOTE.save(tmp_path / "note.json")
    content = (tmp_path / "note.json").read_bytes()
    blank = content.replace(saved.digest.encode(), b"")
    assert hashlib.sha256(blank).hexdigest() == saved.digest == sha256(blank)


def test_another_content_has_another_digest() -> None:
    assert NOTE.sealed()[0].digest != NOTE.model_copy(update={"text": "other"}).sealed()[0].digest
    assert NOTE.sealed() == NOTE.sealed()[0].sealed()  # an old digest is not part of the new


def test_infinity_is_a_string(tmp_path: Path) -> None:
    NOTE.save(tmp_path / "note.json")
    assert '"-Infinity"' in (tmp_path / "note.json").read_text()


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    file = tmp_path / "note.json"
    NOTE.save(file)
    content = file.read_bytes()
    for position in range(len(content)):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(content)
            damaged[position] ^= flip
            file.write_bytes(damaged)
            with pytest.raises(CalibrationError):
                Note.load(file)


def test_any_byte_too_many_or_too_few_is_found(tmp_path: Path) -> None:
    file = tmp_path / "note.json"
    NOTE.save(file)
    content = file.read_bytes()
    for position in range(len(content)):
        for damaged in (content[:position] + content[position + 1 :], content[:position] + b" " + content[position:]):
            file.write_bytes(damaged)
            with pytest.raises(CalibrationError):
                Note.load(file)
    file.write_bytes(content + b"\n")
    with pytest.raises(CalibrationError, match="does not match its digest"):
        Note.load(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"text", "Invalid JSON"),
        (b"\xff\xfe{\x00}\x00", "Invalid JSON"),
        (b'{"text": "\xff", "digest": ""}', "Invalid JSON"),
        (b"null", "content: Input should be an object"),
        (b"[]", "content: Input should be an object"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"text": "a"}', "does not match its digest"),
        (b'{"text": "a", "digest": ""}', "does not match its digest"),
        (b'{"text": "a", "digest": "0"}', "does not match its digest"),
        (b'{"digest": "0"}', "text: Field required"),
        (b'{"text": 3, "digest": "0"}', "text: Input should be a valid string, found 3"),
        (b'{"text": "a", "more": 1, "digest": "0"}', "more: Extra inputs are not permitted, found 1"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "note.json"
    file.write_bytes(content)
    with pytest.raises(CalibrationError, match=reason) as caught:
        Note.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"note.json: expected a file, found none$"):
        Note.load(tmp_path / "note.json")
    with pytest.raises(CalibrationError, match=r"expected a file, found a folder$"):
        Note.load(tmp_path)


def test_the_error_is_the_documents_own(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        Document.load(tmp_path / "nowhere")
