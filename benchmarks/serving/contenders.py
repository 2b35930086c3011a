"""Who is compared: our server, servers of others around the same members, an empty service, and no server at all."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.bare import Way
from benchmarks.serving.children import ROOT, Child, module
from benchmarks.serving.echo import METHOD as ECHO
from benchmarks.serving.echo import THREADS
from protos.ledgate.v1 import classifier_pb2

CLASSIFY: Final = "/ledgate.v1.Classifier/Classify"
# By `scripts/peers-serving`.
PYTHON: Final = ROOT / ".venv-peers-serving" / "bin" / "python"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One contender's turn.

    Attributes:
        images_per_s: By the clock.
        calls_per_s: By the clock.
        server_ms: CPU milliseconds of the server for an image; None where they cannot be told.
        client_ms: And of the callers.
        client_share: Of all cores' time, what the callers took.
        p50_ms: Median latency of a call.
        p99_ms: And its 99th percentile.
    """

    images_per_s: float
    calls_per_s: float
    server_ms: float
    client_ms: float
    client_share: float
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, found: Mapping[str, Any], images: int, cores: int) -> "Turn":
        """A turn from what a child measured, with so many images a call."""
        all_images = found["calls"] * images
        client_s = found.get("client_cpu_s", 0.0)
        return cls(
            images_per_s=all_images / found["seconds"],
            calls_per_s=found["calls"] / found["seconds"],
            server_ms=found["server_cpu_s"] / all_images * 1e3,
            client_ms=client_s / all_images * 1e3,
            client_share=client_s / found["seconds"] / cores,
            p50_ms=found["p50_ms"],
            p99_ms=found["p99_ms"],
        )


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the callers do.

    Attributes:
        callers: At a time.
        images: (N, C, H, W) float32, those of one call.
        seconds: How long.
    """

    callers: int
    images: NDArray[np.float32]
    seconds: float


class Served:
    """A server, and how it is called.

    Args:
        child: Its process, which has said its `address`.
        method: Of gRPC, or `http:` and a path.
        payload: The request for some images.
    """

    def __init__(self, child: Child, method: str, payload: Any) -> None:
        self.child = child
        self._method = method
        self._payload = payload

    def turn(self, callers: Child, load: Load, cores: int) -> Turn:
        """Is called for a while."""
        before_s = self.child.cpu_s()
        found = callers.ask({
            "address": self.child.ready["address"],
            "method": self._method,
            "payload": base64.b64encode(self._payload(load.images)).decode(),
            "callers": load.callers,
            "seconds": load.seconds,
        })  # fmt: skip
        found["server_cpu_s"] = self.child.cpu_s() - before_s
        return Turn.of(found, len(load.images), cores)


def ours(bundle: Path, device: str, *options: str) -> Served:
    """Our server as it comes."""
    command = module("ledgate", "serve", str(bundle), "--port", "0", "--device", device, "--json", *options)
    return Served(Child([*command, "--log-level", "warning"]), CLASSIFY, classify_request)


def echo(kind: str = THREADS) -> Served:
    """The empty service, with our payload, on one of `benchmarks.serving.echo.KINDS`."""
    return Served(Child(module("benchmarks.serving.echo", kind)), ECHO, classify_request)


def classify_request(images: NDArray[np.float32]) -> bytes:
    """Our request."""
    tensor = classifier_pb2.Tensor(dtype=classifier_pb2.FLOAT32, shape=images.shape, data=images.tobytes())
    return classifier_pb2.ClassifyRequest(tensor=tensor).SerializeToString()


def peer(name: str, bundle: Path) -> Served:
    """Another server around the same members."""
    place, method, payload = PEERS[name]
    return Served(Child([str(PYTHON), "-m", f"benchmarks.peers.servers.{place}", str(bundle)]), method, payload)


def infer_request(images: NDArray[np.float32]) -> bytes:
    """Triton's request: the Open Inference Protocol."""
    from protos.inference import inference_pb2

    infer = inference_pb2.ModelInferRequest(model_name="members", raw_input_contents=[images.tobytes()])
    infer.inputs.add(name="images", datatype="FP32", shape=images.shape)
    return infer.SerializeToString()


# Module, method and payload.
PEERS: Final[Mapping[str, tuple[str, str, Any]]] = {
    "triton": ("triton", "/inference.GRPCInferenceService/ModelInfer", infer_request),
    "mosec": ("mosec_server", "http:/inference", lambda images: images.tobytes()),
}


class Alone:
    """ONNX Runtime without a server: see `benchmarks.serving.bare`."""

    def __init__(self, bundle: Path, device: str) -> None:
        self.child = Child(module("benchmarks.serving.bare", str(bundle), device))

    def turn(self, way: Way, seconds: float, cores: int) -> Turn:
        """Runs in a way for a while."""
        return Turn.of(self.child.ask({**asdict(way), "seconds": seconds}), way.batch, cores)

    def best(self, ways: list[Way], seconds: float, cores: int, trials: int) -> Way:
        """The way with the most images a second, each tried in turns."""
        rates = [[self.turn(way, seconds, cores).images_per_s for way in ways] for _ in range(trials)]
        return max(zip(ways, zip(*rates, strict=True), strict=True), key=lambda found: median(found[1]))[0]
