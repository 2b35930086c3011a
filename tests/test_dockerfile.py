"""The image: a clean Dockerfile, and its own install steps, run here without Docker up to a healthy server."""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detector.bundle import Bundle

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
HEALTHCHECK = ROOT / "docker/healthcheck.py"


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command outside the repository, where nothing of it is on the import path by accident."""
    return subprocess.run(list(map(str, command)), cwd=ROOT.anchor, capture_output=True, text=True, check=check)


def test_hadolint_finds_nothing() -> None:
    result = run(Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile", check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_it_runs_as_a_plain_user_and_stops_on_sigterm() -> None:
    final = DOCKERFILE.split("FROM ${BASE_IMAGE}\n")[1]
    assert "\nUSER 10001:10001\n" in final
    assert "\nSTOPSIGNAL SIGTERM\n" in final
    assert "\nEXPOSE 50051\n" in final
    assert '\nENTRYPOINT ["ledgate"]\n' in final


def test_everything_copied_is_sent_to_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    paths = {path for line in copied for path in line.split() if path != "."}
    assert paths
    for path in paths:
        assert (ROOT / path).exists()
        assert path.split("/")[0] in allowed
    # What the wheel is built from; the changelog goes into the sdist only.
    assert {"detector", "ledgate", "protos", "serving", "training", "pyproject.toml", "README.md", "LICENSE"} <= allowed


@pytest.fixture(scope="module")
def image() -> Path:
    """The environment that the image holds, made by the image's own script.

    The packages are kept in .venv-image and made anew when a lock, the script or Python changes;
    ledgate itself is installed every time.
    """
    parts = [ROOT / f"requirements/{name}.lock" for name in ("build", "serve")] + [ROOT / "docker/install"]
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts) + sys.version.encode()).hexdigest()
    home = ROOT / ".venv-image"
    ready = home / "ready"
    if not ready.exists() or ready.read_text() != key:
        shutil.rmtree(home, ignore_errors=True)
        run(ROOT / "docker/install", "tools", home / "tools")
        run(ROOT / "docker/install", "packages", home / "tools", home / "image")
        ready.write_text(key)
    run(ROOT / "docker/install", "ledgate", home / "tools", home / "image")
    return home / "image"


def test_the_image_holds_what_is_locked_and_no_torch(image: Path) -> None:
    code = "import importlib.metadata as m; print(*sorted(d.name.lower().replace('_', '-') for d in m.distributions()))"
    found = set(run(image / "bin/python", "-c", code).stdout.split())
    lines = (ROOT / "requirements/serve.lock").read_text("utf-8").splitlines()
    locked = {line.partition("==")[0] for line in lines if line[:1].isalnum()}
    assert "ledgate" in found
    assert found - {"ledgate"} <= locked
    assert not found & {"torch", "torchvision", "onnxscript", "pip", "pytest"}


def test_the_image_has_our_packages_from_the_wheel(image: Path) -> None:
    rooms = ("detector", "ledgate", "protos", "serving", "training")
    code = f"import importlib.util as u; print(*[u.find_spec(room).origin for room in {rooms}])"
    files = run(image / "bin/python", "-c", code).stdout.split()
    assert len(files) == len(rooms)
    assert all(file.startswith(f"{image}/lib/") for file in files)


def test_the_image_has_the_command(image: Path) -> None:
    assert run(image / "bin/ledgate", "--help").stdout.startswith("usage: ledgate")
    refused = run(image / "bin/ledgate", "train", "--help", check=False)
    assert refused.returncode == 1
    assert "pip install 'ledgate[train]'" in refused.stderr


@contextmanager
def served(image: Path, bundle: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in its own process, and the address from the line that says it is ready."""
    command = [image / "bin/ledgate", "serve", bundle, "--port", "0", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT.anchor, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            match = re.search(r" on (\S+:\d+)", line)
            assert match, line
            yield server, match[1]
        finally:
            server.kill()


def test_the_health_check_tells_a_server_from_none(image: Path, bundle: Bundle) -> None:
    python = image / "bin/python"
    with served(image, bundle.path) as (server, address):
        healthy = run(python, HEALTHCHECK, address)
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
        assert server.returncode == 0, log
    assert (healthy.stdout, healthy.stderr) == ("", "")
    gone = run(python, HEALTHCHECK, address, check=False)
    assert gone.returncode == 1
    (line,) = gone.stderr.splitlines()
    assert line.startswith(f"{address}: expected SERVING, found UNAVAILABLE: ")
