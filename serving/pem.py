"""Certificates and keys as files, checked before gRPC meets them: it would fail later, and without a word."""

import ssl
from pathlib import Path
from typing import Final

from detector.errors import InputError
from detector.files import read_file

_MAX_BYTES: Final = 1 << 20


def read_pem(path: Path) -> bytes:
    """A file of a sensible size.

    Raises:
        InputError: There is none that can be read.
    """
    return read_file(path, lambda why: InputError(f"{path}: {why}"), limit=_MAX_BYTES)


def check_pair(cert: Path, key: Path) -> None:
    """Raises unless these are a certificate and its key."""
    try:
        # Without an answer of ours, OpenSSL would ask for a password at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "no PEM"
        raise InputError(
            f"{cert}, {key}: expected a certificate and its key without a password, both PEM, found: {reason}"
        ) from None


def check_roots(path: Path) -> None:
    """Raises unless the file holds certificates."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise InputError(f"{path}: expected certificates, PEM, found: {error.reason or 'none'}") from None
