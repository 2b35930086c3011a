"""What is said where no server has taken a call: gRPC's own words, and what they hide.

Of the addresses that a name stands for gRPC tells the last, which need not be the one where a server listens; and two
sides of which one speaks TLS and the other does not, or that do not trust each other, part without a word of it.
"""

from typing import Final

from detector.errors import Unavailable
from serving.channels import is_name

# How gRPC's words begin where there is no server to speak.
_NOBODY: Final = ("failed to connect", "errors resolving", "DNS resolution failed", "connections to all backends")
# Where a name leads nowhere, there is nothing behind it that could speak TLS.
_NOWHERE: Final = ("errors resolving", "DNS resolution failed")
# How it says that nothing listens at an address, or that no way leads there.
_NO_CONNECTION: Final = "Failed to connect to remote host"

_WITH_TLS: Final = (
    "if the server does not speak TLS, leave --tls-ca out; if it does, --tls-ca has to lead to its certificate, made "
    "out to this host or to --tls-server-name, and some want a --tls-cert"
)
_WITHOUT_TLS: Final = "if it speaks TLS, say --tls-ca, and --tls-cert where it wants one"


def unreachable(address: str, details: str, *, tls: bool) -> Unavailable | None:
    """The error of a call with the status UNAVAILABLE that met no server; None where a server has said that.

    Args:
        address: That was called.
        details: Of the status.
        tls: Whether the caller speaks TLS.
    """
    if not details.startswith(_NOBODY):
        return None
    text = f"{address}: expected a server, found nobody who answers ({details})"
    if details.startswith(_NOWHERE) or (_NO_CONNECTION in details and not is_name(address)):
        return Unavailable(text)
    return Unavailable(f"{text}; {_WITH_TLS if tls else _WITHOUT_TLS}")
