"""TLS between a real server and a real client: who is trusted, who is served, and renewal while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from detector.detector import Detector
from detector.errors import InputError, Unavailable
from serving.certificates import Certificates
from serving.client import Client
from serving.tls import Tls
from tests.serving.conftest import PATIENCE_S, picture
from tests.serving.operating import OPENSSL, Pair, operated, self_signed

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    return {name: self_signed(folder, name) for name in ("first", "second", "alice")}


@pytest.fixture
def installed(pairs: dict[str, Pair], tmp_path: Path) -> Pair:
    """What a server reads: `first`, in a place where others can take it."""
    place = Pair(tmp_path / "server.pem", tmp_path / "server.key")
    pairs["first"].install(place.cert, place.key)
    return place


@contextmanager
def served(detector: Detector, place: Pair, client_ca: Path | None = None) -> Iterator[str]:
    certificates = Certificates(cert=place.cert, key=place.key, client_ca=client_ca)
    with operated(detector, certificates=certificates) as (server, _):
        yield server.address


def speaks(address: str, tls: Tls | None) -> bool:
    """Whether a new client gets an answer."""
    with Client(address, timeout_s=PATIENCE_S, tls=tls) as client:
        try:
            return len(client.classify(picture(1))) == 1
        except Unavailable:
            return False


def trusting(pair: Pair) -> Tls:
    return Tls(ca=pair.cert)


def test_the_answers_are_those_of_plaintext(tiny: Detector, installed: Pair, pairs: dict[str, Pair]) -> None:
    with served(tiny, installed) as address, Client(address, tls=trusting(pairs["first"])) as client:
        found = client.classify(picture(1), timeout_s=PATIENCE_S)
    np.testing.assert_array_equal(found.score, tiny.classify(picture(1)[None]).score)


def test_who_is_not_trusted_gets_no_images(tiny: Detector, installed: Pair, pairs: dict[str, Pair]) -> None:
    with served(tiny, installed) as address:
        assert not speaks(address, trusting(pairs["second"]))
        assert not speaks(address, Tls())  # the public roots
        assert not speaks(address, None)


def test_a_name_of_the_certificate_serves_another_address(
    tiny: Detector, installed: Pair, pairs: dict[str, Pair]
) -> None:
    with served(tiny, installed) as address:
        assert speaks(address, Tls(ca=pairs["first"].cert, server_name="other.example"))
        assert not speaks(address, Tls(ca=pairs["first"].cert, server_name="nobody.example"))


def test_only_clients_with_a_certificate_are_served(tiny: Detector, installed: Pair, pairs: dict[str, Pair]) -> None:
    first, alice, second = (pairs[name] for name in ("first", "alice", "second"))
    with served(tiny, installed, client_ca=alice.cert) as address:
        assert speaks(address, Tls(ca=first.cert, cert=alice.cert, key=alice.key))
        assert not speaks(address, Tls(ca=first.cert, cert=second.cert, key=second.key))
        assert not speaks(address, Tls(ca=first.cert))


def test_a_renewed_certificate_needs_no_restart(tiny: Detector, installed: Pair, pairs: dict[str, Pair]) -> None:
    first, second = pairs["first"], pairs["second"]
    with served(tiny, installed) as address, Client(address, tls=trusting(first), timeout_s=PATIENCE_S) as old:
        old.classify(picture(1))
        second.install(installed.cert, installed.key)
        assert speaks(address, trusting(second))
        assert not speaks(address, trusting(first))
        old.classify(picture(1))  # what is connected stays so


def test_renewed_client_roots_need_no_restart(
    tiny: Detector, installed: Pair, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    alice, second, roots = pairs["alice"], pairs["second"], tmp_path / "roots.pem"
    roots.write_bytes(alice.cert.read_bytes())
    tls = Tls(ca=pairs["first"].cert, cert=second.cert, key=second.key)
    with served(tiny, installed, client_ca=roots) as address:
        assert not speaks(address, tls)
        roots.write_bytes(alice.cert.read_bytes() + second.cert.read_bytes())
        assert speaks(address, tls)


@pytest.mark.parametrize("broken", ["half", "garbage", "gone"])
def test_a_broken_renewal_leaves_the_old_certificate_in_force(
    tiny: Detector, installed: Pair, pairs: dict[str, Pair], broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = pairs["first"], pairs["second"]
    with served(tiny, installed) as address:
        assert speaks(address, trusting(first))
        if broken == "half":  # the key is not there yet
            installed.cert.write_bytes(second.cert.read_bytes())
        elif broken == "garbage":
            installed.cert.write_text("no certificate")
        else:
            installed.cert.unlink()
        assert speaks(address, trusting(first))
        assert speaks(address, trusting(first))
        assert caplog.text.count("what was read before stays in force") == 1
        second.install(installed.cert, installed.key)
        assert speaks(address, trusting(second))


def test_a_bad_file_is_named_before_anybody_listens(installed: Pair, pairs: dict[str, Pair], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    for cert, key, client_ca, expected in (
        (tmp_path / "none", installed.key, None, f"{tmp_path}/none: expected a file, found none"),
        (tmp_path / "text", installed.key, None, "expected a certificate and its key without a password"),
        (installed.cert, pairs["second"].key, None, "KEY_VALUES_MISMATCH"),
        (installed.cert, installed.key, tmp_path / "text", f"{tmp_path}/text: expected certificates, PEM"),
    ):
        with pytest.raises(InputError, match=expected):
            Certificates(cert=cert, key=key, client_ca=client_ca).credentials()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda pair, text: Tls(cert=pair.cert), "tls: expected key beside cert, found none"),
        (lambda pair, text: Tls(key=pair.key), "tls: expected cert beside key, found none"),
        (lambda pair, text: Tls(ca=text), "expected certificates, PEM"),
        (lambda pair, text: Tls(ca=text.with_name("none")), "none: expected a file, found none"),
        (lambda pair, text: Tls(cert=text, key=pair.key), "expected a certificate and its key"),
    ],
    ids=["no key", "no certificate", "roots that are none", "no roots", "a certificate that is none"],
)
def test_a_client_names_what_does_not_fit(
    make: Callable[[Pair, Path], Tls], message: str, pairs: dict[str, Pair], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(InputError, match=message):
        Client("localhost:1", tls=make(pairs["alice"], tmp_path / "text"))
