"""The client's side of TLS: whom it trusts, and who it says it is."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from detector.errors import SettingError
from serving.pem import check_pair, check_roots, read_pem


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What a client needs to speak TLS; all files are PEM.

    Attributes:
        ca: Roots to trust; None for those that come with gRPC, which are the public ones.
        cert: The client's own certificate, for a server that asks for one.
        key: Its private key, without a password.
        server_name: What the server's certificate has to be made out to; None for the host of the
            address. For a server that is reached under another name, through a tunnel for example.

    Raises:
        InputError: One of `cert` and `key` without the other.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) is not (self.key is None):
            lacking, given = ("key", "cert") if self.key is None else ("cert", "key")
            raise SettingError(f"tls: expected {lacking} beside {given}, found none")

    def credentials(self) -> grpc.ChannelCredentials:
        """What a gRPC channel takes.

        Raises:
            InputError: A file cannot be read or is none of its kind.
        """
        roots, cert, key = (None if path is None else read_pem(path) for path in (self.ca, self.cert, self.key))
        if self.ca is not None:
            check_roots(self.ca)
        if self.cert is not None and self.key is not None:
            check_pair(self.cert, self.key)
        return grpc.ssl_channel_credentials(roots, key, cert)

    def options(self) -> list[tuple[str, str]]:
        """Options of the channel."""
        return [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]
