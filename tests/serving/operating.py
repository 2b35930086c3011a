"""A real server with what an operator adds, and certificates made by openssl."""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from serving.config import ServerConfig
from serving.operations import Operations, OperationsConfig
from serving.server import Server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

OPENSSL = shutil.which("openssl")


@contextmanager
def operated(*detectors: Any, config: ServerConfig | None = None, **added: Any) -> Iterator[tuple[Server, Operations]]:
    """A server of these detectors with what is added."""
    config = ServerConfig(port=0) if config is None else config
    with (
        Operations(OperationsConfig(**added), config) as operations,
        Server(config, models=len(detectors), **operations.for_server()) as server,
    ):
        server.start()
        server.open(detectors)
        operations.start(server)
        yield server, operations


def scrape(operations: Operations) -> Samples:
    """What Prometheus gets."""
    url = f"http://{operations.metrics_address}/metrics"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """One of them."""
    return samples[name, frozenset(labels.items())]


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path

    def install(self, cert: Path, key: Path) -> None:
        """Puts copies in the place of others, as a renewal does."""
        for source, target in ((self.cert, cert), (self.key, key)):
            part = target.with_suffix(".new")
            shutil.copy(source, part)
            part.replace(target)


def self_signed(folder: Path, name: str) -> Pair:
    """A root for itself, made out to localhost and its address."""
    assert OPENSSL is not None
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=DNS:localhost,DNS:other.example,IP:127.0.0.1"]
    command += ["-out", str(pair.cert), "-keyout", str(pair.key)]
    subprocess.run(command, check=True, capture_output=True)
    return pair
