"""JSON documents that carry their own digest: `bundle.json` and `calibration.json`.

The digest is the SHA-256 of the file's very bytes with the digest itself left empty, so that a
change of any byte, even of white space, is found. It finds corruption and mix-ups; it is no
signature, and whoever can write the file can make a new one.

Infinity is written as the string "-Infinity", since JSON has no number for it.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from detector.errors import BundleError, LedgateError
from detector.files import read_file, write_bytes

# The last field, and nothing but the closing brace after it.
_DIGEST: Final = re.compile(rb'"digest": "([0-9a-f]{64})"\s*\}\s*\Z')


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Record(BaseModel):
    """A frozen part of a document; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    def __eq__(self, other: object) -> bool:
        """By the fields: arrays that were made of them, and kept, do not count."""
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in type(self).model_fields
        )

    def __hash__(self) -> int:
        """By the same; TypeError where one of them cannot be hashed."""
        return hash(tuple(getattr(self, name) for name in type(self).model_fields))


class Document(Record):
    """A frozen JSON document with its own digest. `digest` stays the last field."""

    error: ClassVar[type[LedgateError]] = BundleError

    def sealed(self) -> tuple[Self, bytes]:
        """Returns the document with its digest, and the bytes to write."""
        blank = self.model_copy(update={"digest": ""}).model_dump_json(indent=2).encode() + b"\n"
        digest = sha256(blank)
        return self.model_copy(update={"digest": digest}), _with_digest(blank, "", digest)

    def save(self, path: Path) -> Self:
        """Seals and writes the document, whole or not at all; returns it with its digest."""
        document, content = self.sealed()
        write_bytes(path, content)
        return document

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a document and checks its digest.

        Raises:
            BundleError: (or the class's own error) no such file, not this kind of document, or
                content that does not match its digest.
        """
        content = read_file(path, lambda found: cls.error(f"{path}: {found}"))
        found = _DIGEST.search(content)
        claimed = found[1].decode() if found else ""
        changed = sha256(_with_digest(content, claimed, "")) != claimed
        damaged = cls.error(f"{path}: the content does not match its digest; the file was damaged or edited")
        if found and changed:  # said before what the change did to a field
            raise damaged
        try:
            document = cls.model_validate_json(content)
        except ValidationError as error:
            raise cls.error(f"{path}: {_first(error)}") from None
        if changed:
            raise damaged
        return document


def _with_digest(content: bytes, old: str, new: str) -> bytes:
    """The document's bytes with another digest; it is the last field, so the last occurrence counts."""
    head, found, tail = content.rpartition(f'"digest": "{old}"'.encode())
    return head + f'"digest": "{new}"'.encode() + tail if found else b""


def _first(error: ValidationError) -> str:
    """The first fault of a validation, as field, expected and found."""
    fault: Any = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in fault["loc"]) or "content"
    found = repr(fault["input"])
    return f"{field}: {fault['msg']}, found {found if len(found) < 80 else found[:77] + '...'}"
