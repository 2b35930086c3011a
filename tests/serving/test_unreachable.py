"""What is said where no server has taken a call, and when TLS may be why."""

import pytest

from detector.errors import Unavailable
from serving.tls import Tls
from serving.unreachable import unreachable
from tests.serving.callers import Connect
from tests.serving.conftest import PATIENCE_S
from tests.serving.counted import counted, unused_port

NOBODY = "failed to connect to all addresses; last error: "
REFUSED = f"{NOBODY}UNKNOWN: ipv6:[::1]:1: Failed to connect to remote host: connect: Connection refused (111)"
CLOSED = f"{NOBODY}UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
BACKENDS = f"connections to all backends failing; last error: {CLOSED}"
UNKNOWN = "errors resolving nobody.example:1: [field:hostname lookup error:Domain name not found]"
TO_TLS = "; if it speaks TLS, say --tls-ca, and --tls-cert where it wants one"
TO_PLAINTEXT = "; if the server does not speak TLS, leave --tls-ca out"


@pytest.mark.parametrize(
    ("address", "details", "hinted"),
    [
        ("127.0.0.1:1", REFUSED, False),
        ("[::1]:1", REFUSED, False),
        ("localhost:1", REFUSED, True),  # it may be another of its addresses where the server is
        ("127.0.0.1:1", CLOSED, True),
        ("gate.example:1", BACKENDS, True),
        ("nobody.example:1", UNKNOWN, False),
    ],
    ids=["refused", "refused by IPv6", "refused by a name", "closed", "all backends", "no such name"],
)
def test_tls_is_spoken_of_where_it_may_be_the_cause(address: str, details: str, *, hinted: bool) -> None:
    for tls, hint in ((False, TO_TLS), (True, TO_PLAINTEXT)):
        found = str(unreachable(address, details, tls=tls))
        assert found.startswith(f"{address}: expected a server, found nobody who answers ({details})")
        assert (hint in found) is hinted
        assert hinted or found.endswith(f"({details})")


def test_what_a_server_has_said_is_its_own() -> None:
    assert unreachable("localhost:1", "the server is draining; try another", tls=False) is None


def test_a_client_with_tls_at_a_server_without_is_told(connect: Connect) -> None:
    with counted() as (server, _), pytest.raises(Unavailable, match=f"nobody who answers .*{TO_PLAINTEXT}"):
        connect(server.address, tls=Tls()).model(timeout_s=PATIENCE_S)


def test_where_nobody_listens_tls_is_not_spoken_of(connect: Connect) -> None:
    with pytest.raises(Unavailable, match=r"Connection refused[^;]*\) \(tried 5 times\)$"):
        connect(f"127.0.0.1:{unused_port()}").model(timeout_s=PATIENCE_S)
