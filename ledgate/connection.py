"""How a command reaches a server: the address, TLS and the token."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from serving.client import Client
    from serving.tls import Tls


# The names of the options, for commands to which they do not always belong.
CONNECTION: Final = ("tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file", "token_in_plaintext")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add = parser.add_argument
    add("--tls", action="store_true", help="speak TLS, and trust the public roots; implied by the other options of TLS")
    add("--tls-ca", type=Path, metavar="FILE", help="trust these roots instead, PEM")
    add("--tls-cert", type=Path, metavar="FILE", help="the client's own certificate, PEM, for a server that wants one")
    add("--tls-key", type=Path, metavar="FILE", help="its private key, PEM, without a password")
    add("--tls-server-name", metavar="NAME", help="what the server's certificate is made out to, if not the host")
    add("--token-file", type=Path, metavar="FILE", help="send the first token of this file with each call")
    add("--token-in-plaintext", action="store_true", help="send it without TLS to another machine too")


def connect(address: str, options: argparse.Namespace) -> "Client":
    """A client, to be closed.

    Raises:
        InputError: The options do not fit together, or a file is not what it has to be.
    """
    from serving.client import Client
    from serving.tokens import read_token

    return Client(
        address,
        tls=tls_of(options),
        token=None if options.token_file is None else read_token(options.token_file),
        token_in_plaintext=options.token_in_plaintext,
    )


def tls_of(options: argparse.Namespace) -> "Tls | None":
    """What the options say of TLS; None where none of them is there."""
    from serving.tls import Tls

    values = (options.tls_ca, options.tls_cert, options.tls_key, options.tls_server_name)
    if not options.tls and values == (None,) * 4:
        return None
    return Tls(ca=values[0], cert=values[1], key=values[2], server_name=values[3])
