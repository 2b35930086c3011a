"""Bearer tokens: who may call, by a secret that is sent with each call.

A file has one token a line, and after it, if wanted, a name for the log. Lines that begin with `#`
are comments. The file is read again when it changes. Only digests are kept, and all of them are
compared, each in constant time: how long a refusal takes says nothing about a token.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detector.errors import InputError, Unauthenticated
from detector.files import read_file
from serving.fresh import Fresh

HEADER: Final = "authorization"
_SCHEME: Final = "bearer"
_MIN_LENGTH: Final = 16
_MAX_BYTES: Final = 1 << 20
# What RFC 6750 allows in a token.
_TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Tokens:
    """The tokens of a file.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be read, has a line that is no token, or none at all. Tokens are
            never in a message.
    """

    def __init__(self, path: Path) -> None:
        self._named = Fresh([path], lambda: _digests(path))

    def __len__(self) -> int:
        return len(self._named.get())

    def caller(self, metadata: Sequence[tuple[str, Any]] | None) -> str:
        """The name of who sends this metadata.

        Raises:
            Unauthenticated: There is no token in it, or an unknown one.
        """
        presented = next((value for key, value in metadata or () if key == HEADER), None)
        if presented is None:
            raise Unauthenticated(f"{HEADER}: expected 'Bearer TOKEN', found nothing")
        scheme, _, token = str(presented).partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthenticated(f"{HEADER}: expected 'Bearer TOKEN', found another scheme")
        digest = _digest(token.strip())
        found = [name for known, name in self._named.get().items() if hmac.compare_digest(known, digest)]
        if not found:
            raise Unauthenticated(f"{HEADER}: expected a token that this server knows, found another")
        return found[0]


def read_token(path: Path) -> str:
    """The first token of a file, for a client.

    Raises:
        InputError: There is none.
    """
    return next(iter(_lines(path)))


def header(token: str) -> tuple[str, str]:
    """The metadata that carries a token.

    Raises:
        InputError: It holds what no token may.
    """
    if not _TOKEN.fullmatch(token):
        raise InputError("token: expected letters, digits and -._~+/ with = at the end, found something else")
    return HEADER, f"Bearer {token}"


def _digests(path: Path) -> Mapping[bytes, str]:
    """Digest of each token, and its name or `line N`."""
    return {_digest(token): name for token, name in _lines(path).items()}


def _lines(path: Path) -> dict[str, str]:
    """Token and name."""
    text = read_file(path, lambda why: InputError(f"{path}: {why}"), limit=_MAX_BYTES).decode("utf-8", "replace")
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        token, _, name = line.strip().partition(" ")
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.fullmatch(token) or len(token) < _MIN_LENGTH:
            raise InputError(
                f"{path}: line {number}: expected a token of at least {_MIN_LENGTH} letters, digits or -._~+/ and "
                "perhaps a name after it, found something else"
            )
        if token in found:
            raise InputError(f"{path}: line {number}: expected a new token, found one that an earlier line has")
        found[token] = name.strip() or f"line {number}"
    if not found:
        raise InputError(f"{path}: expected a token a line, found none")
    return found


def _digest(token: str) -> bytes:
    """All of the same length, whatever the token's."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
