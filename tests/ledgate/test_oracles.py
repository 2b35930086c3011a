"""What `ledgate attack` asks over the wire: real servers on loopback, and some that are not as they should be."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from detector.bundle import Bundle
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.oracle import Oracle
from detector.prediction import Floats
from ledgate.cli import main
from ledgate.oracles import Kind, opened
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc
from serving.client import Client
from serving.config import Reply, ServerConfig
from serving.server import Server
from tests.conftest import make_images

PATIENCE_S = 30.0


@contextmanager
def served(*bundles: Path, **config: Any) -> Iterator[str]:
    """A server in this process; yields its address."""
    server = Server(ServerConfig(port=0, **config), models=len(bundles))
    server.start()
    server.open([Detector.open(bundle, device="cpu", threads=1) for bundle in bundles])
    try:
        yield server.address
    finally:
        assert server.stop(PATIENCE_S) == 0


@contextmanager
def asked(address: str, *, model: str = "", timeout_s: float = PATIENCE_S) -> Iterator[Oracle]:
    with opened(
        address, device="cpu", threads=1, budget=None, connect=Client, model=model, timeout_s=timeout_s
    ) as oracle:
        yield oracle


class Passing(classifier_pb2_grpc.ClassifierServicer):
    """Passes calls on to a real server, in case a test does not change what it answers."""

    def __init__(self, address: str) -> None:
        self.stub = classifier_pb2_grpc.ClassifierStub(grpc.insecure_channel(address))  # type: ignore[no-untyped-call]

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC calls it so
        return self.stub.GetModel(request)

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC calls it so
        return self.stub.Classify(request)


class ClassesAlone(Passing):
    """Tells the class and no probability."""

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC calls it so
        reply = self.stub.Classify(request)
        for result in reply.results:
            result.ClearField("probabilities")
        return reply


class Silent(Passing):
    """Describes its model, and then says nothing until it is let go."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.released = threading.Event()

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC calls it so
        assert self.released.wait(PATIENCE_S)
        return classifier_pb2.ClassifyResponse()


@contextmanager
def answering(servicer: Passing) -> Iterator[str]:
    """A server of that servicer; yields its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    classifier_pb2_grpc.add_ClassifierServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        if isinstance(servicer, Silent):
            servicer.released.set()
        server.stop(0).wait()


def expected(bundle: Bundle, images: Any) -> Floats:
    return Detector.open(bundle.path, device="cpu", threads=1).classify(images).probabilities


@pytest.mark.parametrize("reply", [Reply.FULL, Reply.FLAG_ONLY])
def test_a_server_answers_as_its_bundle_whatever_its_limits_and_its_reply(calibrated: Bundle, reply: Reply) -> None:
    images = make_images(11)
    with served(calibrated.path, max_images=4, reply=reply) as address, asked(address) as oracle:
        assert np.array_equal(oracle(images), expected(calibrated, images))
        assert (oracle.shape, oracle.classes) == ((1, 8, 8), 10)
        assert oracle.known_as == {"bundle": calibrated.digest}
        assert oracle.spent == 11


def test_of_several_models_the_named_one_is_asked(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, templates: Path
) -> None:
    with served(bundle.path, templates / "calibrated") as address:
        with asked(address) as oracle:
            assert oracle.known_as == {"bundle": bundle.digest}
        with asked(address, model="calibrated") as oracle:
            assert oracle.known_as == {"bundle": Bundle.open(templates / "calibrated").digest}


@pytest.mark.parametrize(
    ("source", "kind"), [("{run}", Kind.RUN), ("{bundle}", Kind.BUNDLE), ("localhost:1", Kind.SERVER)]
)
def test_a_source_is_known_by_what_it_is(source: str, kind: Kind, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert Kind.of(source.format(bundle=bundle.path, run=tmp_path / "run")) is kind


@pytest.fixture
def words(bundle: Bundle, tmp_path: Path) -> list[str]:
    """An attack on images of the bundle's shape."""
    images = make_images(5)
    ImageSet(images=images, labels=expected(bundle, images).argmax(axis=1)).save(tmp_path / "clean.npz")
    return ["--clean", str(tmp_path / "clean.npz"), "--attack", "square", "--eps", "0.2", "--queries", "20",
            "--out", str(tmp_path / "out.npz")]  # fmt: skip


def refusal(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    """The one line with which the attack fails; nothing is left behind."""
    assert main(["attack", *given]) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    (line,) = caught.err.splitlines()
    assert not list(Path(given[given.index("--out") + 1]).parent.glob("out.npz*"))
    return line


def test_a_server_that_tells_classes_alone_is_refused(
    bundle: Bundle, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with served(bundle.path) as address, answering(ClassesAlone(address)) as hiding:
        line = refusal(capsys, hiding, *words)
    assert line.startswith("ledgate attack: predictions: expected the probability of each class, found none; from the")


def test_a_server_that_does_not_answer_in_time_is_given_up(
    bundle: Bundle, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with served(bundle.path) as address, answering(Silent(address)) as silent:
        line = refusal(capsys, silent, *words, "--timeout-s", "0.5")
    assert line.startswith("ledgate attack: ")
    assert "expected an answer within 0.5 s, found none" in line


def test_nobody_there_and_no_such_model_are_one_line(
    bundle: Bundle, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "expected a server, found nobody who answers" in refusal(capsys, "127.0.0.1:1", *words)
    with served(bundle.path) as address:
        assert "model: expected linear, found 'other'" in refusal(capsys, address, *words, "--model", "other")


def test_images_of_another_shape_are_refused_before_anything_is_asked(
    bundle: Bundle, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ImageSet(images=make_images(2, shape=(3, 8, 8)), labels=np.zeros(2, int)).save(tmp_path / "clean.npz")
    with served(bundle.path) as address, answering(Silent(address)) as silent:
        line = refusal(capsys, silent, *words)
    assert "images: expected shape (N, 1, 8, 8), found (2, 3, 8, 8)" in line
