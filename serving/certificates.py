"""The server's side of TLS: its certificate, and where asked for its clients' too, renewed without a restart.

gRPC asks at every handshake; whatever is in the files then is what the next connection meets.
"""

from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.fresh import Fresh
from serving.pem import check_pair, check_roots, read_pem


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files in PEM format.

    Attributes:
        cert: The server's certificate, and behind it those that lead to its root.
        key: Its private key, without a password.
        client_ca: Roots of the clients' certificates: then only clients with one are served. None
            asks for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return (self.cert, self.key) if self.client_ca is None else (self.cert, self.key, self.client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """What a gRPC server takes; it follows the files.

        Raises:
            InputError: A file cannot be read, is none of its kind, or the key is another
                certificate's.
        """
        fresh = Fresh(self.paths, self.read)
        last = initial = fresh.get()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal last
            newest = fresh.get()
            if newest is last:
                return None
            last = newest
            return newest

        return grpc.dynamic_ssl_server_credentials(
            initial,
            changed,  # type: ignore[arg-type]  # the stubs know no "as before"
            require_client_authentication=self.client_ca is not None,
        )

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Reads and checks the files.

        Raises:
            InputError: As above.
        """
        cert, key = read_pem(self.cert), read_pem(self.key)
        roots = None if self.client_ca is None else read_pem(self.client_ca)
        check_pair(self.cert, self.key)
        if self.client_ca is not None:
            check_roots(self.client_ca)
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=roots)
