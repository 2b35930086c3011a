"""Tiny real bundles, a detector with a gate, and real servers on free loopback ports.

The members' weights are multiples of 1/4 and the images of `picture` hold 0 and 1 only, so that
float32 sums are exact in any order, and an answer is the same to the bit in whatever batch.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detector.bundle import write_bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.targets import TargetFpr
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2 as pb
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.batcher import Batcher
from serving.client import Client
from serving.config import ServerConfig
from serving.server import Server
from serving.ticket import Ticket
from tests.serving.callers import KINDS, Caller, Connect, Kind

SHAPE = (1, 8, 8)
CLASSES = 10
PATIENCE_S = 30.0  # far longer than anything takes; a test that waits so long fails


def member(seed: int, *, fragile: bool = False) -> bytes:
    """A linear classifier; a fragile one answers with NaN where the last pixel is exactly 1."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-8, 9, (64, CLASSES)).astype(np.float32) / 4
    arrays: dict[str, np.ndarray] = {"w": weights, "b": np.zeros(CLASSES, np.float32)}
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["plain" if fragile else "logits"]),
    ]
    if fragile:
        arrays |= {"last": np.array([63], np.int64), "one": np.ones(1, np.float32), "zero": np.zeros(1, np.float32)}
        nodes += [
            helper.make_node("Gather", ["flat", "last"], ["pixel"], axis=1),
            helper.make_node("Sub", ["one", "pixel"], ["distance"]),
            helper.make_node("Log", ["distance"], ["log"]),
            helper.make_node("Mul", ["log", "zero"], ["zero_or_nan"]),
            helper.make_node("Add", ["plain", "zero_or_nan"], ["logits"]),
        ]
    graph = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(number: int) -> np.ndarray:
    """Image number 0 .. 255: (1, 8, 8) float32 of zeros and ones, its first pixels the number in binary."""
    bits = np.unpackbits(np.array([number], np.uint8))
    rest = np.random.default_rng(number).integers(0, 2, 55)
    return np.concatenate([bits, rest, [0]]).astype(np.float32).reshape(SHAPE)


def numbers(images: np.ndarray) -> list[int]:
    """Which pictures these are."""
    return [int(np.packbits(image.ravel()[:8].astype(np.uint8))[0]) for image in images]


def request(*pictures: int, **fields: Any) -> pb.ClassifyRequest:
    """A request for some pictures."""
    data = np.stack([picture(number) for number in pictures])
    tensor = pb.Tensor(dtype=pb.FLOAT32, shape=data.shape, data=data.tobytes())
    return pb.ClassifyRequest(tensor=tensor, **fields)


class GatedDetector:
    """A real detector whose runs wait until they are let through.

    Attributes:
        runs: The pictures of every run, in order.
        breaks_on: Pictures that make a run raise.
    """

    def __init__(self, detector: Detector) -> None:
        self.bundle = detector.bundle
        self.execution_path = detector.execution_path
        self.lanes = 1
        self.runs: list[list[int]] = []
        self.breaks_on: set[int] = set()
        self._detector = detector
        self._started: SimpleQueue[None] = SimpleQueue()
        self._released = threading.Event()

    def logits(self, images: Any) -> Any:
        found = numbers(images)
        self.runs.append(found)
        self._started.put(None)
        assert self._released.wait(PATIENCE_S)
        if self.breaks_on & set(found):
            raise RuntimeError("secret path /srv/weights")
        return self._detector.logits(images)

    def judge(self, logits: Any, *, members: bool = False) -> Verdicts:
        return self._detector.judge(logits, members=members)

    def wait_for_run(self) -> None:
        """Waits until the next run has begun."""
        self._started.get(timeout=PATIENCE_S)

    def release(self) -> None:
        """Lets this run and all later ones through."""
        self._released.set()


@dataclass(frozen=True)
class Served:
    """A running server and ways to call it."""

    server: Server
    address: str
    stub: Any
    channel: grpc.Channel
    client: Client


class Submissions:
    """What the batchers of all servers in this process have taken in and given up.

    Attributes:
        total: Requests taken in so far.
    """

    def __init__(self) -> None:
        self.total = 0
        self._submitted: SimpleQueue[Ticket] = SimpleQueue()
        self._cancelled: SimpleQueue[Ticket] = SimpleQueue()

    def note(self, name: str, method: Callable[..., None]) -> Callable[..., None]:
        queue = {"submit": self._submitted, "cancel": self._cancelled}[name]

        def noted(batcher: Batcher, ticket: Ticket) -> None:
            settled = ticket.settled
            method(batcher, ticket)
            if not settled:
                self.total += name == "submit"
                queue.put(ticket)

        return noted

    def wait(self, count: int) -> None:
        """Waits until so many more requests are in a queue."""
        for _ in range(count):
            self._submitted.get(timeout=PATIENCE_S)

    def wait_cancelled(self, count: int) -> None:
        """Waits until so many more requests that had no answer have been given up."""
        for _ in range(count):
            self._cancelled.get(timeout=PATIENCE_S)


@pytest.fixture
def submissions(monkeypatch: pytest.MonkeyPatch) -> Submissions:
    found = Submissions()
    monkeypatch.setattr(Batcher, "submit", found.note("submit", Batcher.submit))
    monkeypatch.setattr(Batcher, "cancel", found.note("cancel", Batcher.cancel))
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: `tiny`, calibrated; `twins`, two of whose members are the same; `fragile`, see `member`."""
    root = tmp_path_factory.mktemp("bundles")
    labels = [f"class {index}" for index in range(CLASSES)]
    members = {
        "tiny": [member(0), member(1), member(2)],
        "twins": [member(0), member(1), member(0)],
        "fragile": [member(0), member(1), member(2, fragile=True)],
    }
    for name, contents in members.items():
        write_bundle(root / name, members=contents, labels=labels, provenance={"command": "test"})
    images = np.random.default_rng(0).integers(0, 256, (400, *SHAPE)).astype(np.uint8)
    calibrate(root / "tiny", clean=ImageSet(images=images), target=TargetFpr(0.2), device="cpu")
    return root


@pytest.fixture(scope="session")
def tiny(folder: Path) -> Detector:
    return Detector.open(folder / "tiny", device="cpu", threads=1)


@pytest.fixture(scope="session")
def twins(folder: Path) -> Detector:
    return Detector.open(folder / "twins", device="cpu", threads=1)


@pytest.fixture(scope="session")
def fragile(folder: Path) -> Detector:
    return Detector.open(folder / "fragile", device="cpu", threads=1)


@pytest.fixture
def gated(tiny: Detector) -> Iterator[GatedDetector]:
    detector = GatedDetector(tiny)
    yield detector
    detector.release()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts servers: `serve(detector, ..., max_batch=4)`."""
    started: list[tuple[Served, tuple[Any, ...]]] = []

    def start(*detectors: Any, **config: Any) -> Served:
        server = Server(ServerConfig(port=0, **config), models=len(detectors))
        server.start()
        server.open(detectors)
        channel = grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)])
        served = Served(
            server=server,
            address=server.address,
            stub=classifier_pb2_grpc.ClassifierStub(channel),  # type: ignore[no-untyped-call]
            channel=channel,
            client=Client(server.address, timeout_s=PATIENCE_S),
        )
        started.append((served, detectors))
        return served

    yield start
    for served, detectors in started:
        for detector in detectors:
            if isinstance(detector, GatedDetector):
                detector.release()
        served.client.close()
        served.channel.close()
        assert served.server.stop(PATIENCE_S) == 0


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each client in its turn."""
    found: Kind = request.param
    return found


@pytest.fixture
def connect(kind: Kind) -> Iterator[Connect]:
    """Makes clients of that kind, which are closed at the end: `connect(address, ...)`."""
    with ExitStack() as closing:
        yield lambda *arguments, **options: closing.enter_context(Caller(kind, *arguments, **options))
