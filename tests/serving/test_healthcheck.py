"""The image's health check against servers that want TLS and tokens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detector.detector import Detector
from serving.certificates import Certificates
from tests.serving.operating import OPENSSL, Pair, operated, self_signed

HEALTHCHECK = Path(__file__).resolve().parents[2] / "docker/healthcheck.py"

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("pair"), "server")


def asked(address: str, **files: Path) -> tuple[int, str]:
    """Exit status, and what it says."""
    environment = {**os.environ, **{f"LEDGATE_HEALTH_{name}": str(file) for name, file in files.items()}}
    command = [sys.executable, str(HEALTHCHECK), address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_it_needs_no_token(tiny: Detector, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("alice-0123456789-abc")
    with operated(tiny, token_file=tmp_path / "tokens") as (server, _):
        assert asked(server.address) == (0, "")


def test_it_speaks_tls_where_it_is_told_whom_to_trust(tiny: Detector, pair: Pair) -> None:
    certificates = Certificates(cert=pair.cert, key=pair.key, client_ca=pair.cert)
    with operated(tiny, certificates=certificates) as (server, _):
        assert asked(server.address, CA=pair.cert, CERT=pair.cert, KEY=pair.key) == (0, "")
        status, said = asked(server.address)
    assert status == 1
    assert f"{server.address}: expected SERVING, found UNAVAILABLE" in said


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert asked("localhost:1", CA=tmp_path / "none") == (
        1,
        f"{tmp_path}/none: expected a file to read, found: No such file or directory\n",
    )
