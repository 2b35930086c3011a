"""What is left of a call once it is over: no memory, and no work."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest

from detector.decoding import decode_image
from detector.inputspec import InputSpec
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.reception import Reception
from tests.serving.conftest import PATIENCE_S, GatedDetector, Served, request
from tests.serving.test_refusals import encoded, file, floats

Serve = Callable[..., Served]


class Memory:
    """What calls have held, each known to be gone or not."""

    def __init__(self) -> None:
        self._gone: list[threading.Event] = []
        self._held: list[weakref.ref[Any]] = []

    def watch(self, held: Any) -> None:
        """Looks at this, too."""
        gone = threading.Event()
        self._held.append(weakref.ref(held, lambda _: gone.set()))
        self._gone.append(gone)

    def wait_after(self, call: Callable[[], object]) -> None:
        """Waits until those are gone that there are now, at least one, and another call has been made.

        A model that has nothing to do keeps its last batch until the next.
        """
        gone = list(self._gone)
        assert gone
        call()
        for each in gone:
            assert each.wait(PATIENCE_S)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    """Of all calls, and of their images; Python's collector does not run meanwhile."""
    found = Memory()
    check, enter = InputSpec.check, Reception.enter

    def entered(reception: Reception, context: grpc.ServicerContext, *more: Any) -> None:
        found.watch(context)
        enter(reception, context, *more)

    def checked(spec: InputSpec, images: Any, where: str = "images") -> Any:
        found.watch(images)
        return check(spec, images, where)

    def decoded(*arguments: Any, **options: Any) -> Any:
        held = np.zeros(1)  # in a frame that the error comes through
        found.watch(held)
        return decode_image(*arguments, **options)

    monkeypatch.setattr(Reception, "enter", entered)
    monkeypatch.setattr(InputSpec, "check", checked)
    monkeypatch.setattr("serving.requests.decode_image", decoded)
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


CALLS = {
    "an answer": (request(1), grpc.StatusCode.OK),
    "bad numbers": (floats(np.nan), grpc.StatusCode.INVALID_ARGUMENT),
    "a bad file": (encoded(file(), b"\x89PNG\r\n\x1a\n"), grpc.StatusCode.INVALID_ARGUMENT),
    "half a file": (encoded(file()[:45]), grpc.StatusCode.INVALID_ARGUMENT),
    "a failing run": (request(7), grpc.StatusCode.INTERNAL),
}


@pytest.mark.parametrize(("message", "code"), CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
def test_nothing_stays_in_memory(
    serve: Serve,
    gated: GatedDetector,
    memory: Memory,
    monkeypatch: pytest.MonkeyPatch,
    message: Any,
    code: grpc.StatusCode,
    stream: bool,
) -> None:
    # Pytest keeps the frames of what is logged.
    monkeypatch.setattr(logging.getLogger("serving.batcher"), "disabled", True)
    gated.breaks_on = {7}
    gated.release()
    stub = serve(gated).stub
    if stream:
        (answer,) = stub.ClassifyStream(iter([message]))
        assert answer.status.code == code.value[0]
    else:
        assert stub.Classify.future(message).code() is code
    memory.wait_after(lambda: stub.Classify(request(3)))


def test_nothing_stays_of_a_call_whose_deadline_has_passed(serve: Serve, gated: GatedDetector, memory: Memory) -> None:
    stub = serve(gated).stub
    first = stub.Classify.future(request(1))
    gated.wait_for_run()
    assert stub.Classify.future(request(2), timeout=0.2).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gated.release()
    assert first.code() is grpc.StatusCode.OK
    memory.wait_after(lambda: stub.Classify(request(3)))


class Decoder:
    """A decoder that waits at its first image."""

    def __init__(self) -> None:
        self.count = 0
        self.started = threading.Event()
        self.free = threading.Event()

    def __call__(self, *_: object, **__: object) -> np.ndarray:
        self.count += 1
        self.started.set()
        assert self.free.wait(PATIENCE_S)
        return np.zeros((1, 8, 8), np.uint8)


class Told(logging.Handler):
    """Lines of the log, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: SimpleQueue[str] = SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put(record.getMessage())


@pytest.fixture
def refusals() -> Iterator[Told]:
    """What is refused, as the log tells it."""
    told, log = Told(), logging.getLogger("serving.status")
    before = log.level
    log.addHandler(told)
    log.setLevel(logging.DEBUG)
    yield told
    log.removeHandler(told)
    log.setLevel(before)


@pytest.mark.parametrize("way", ["deadline", "cancelled"])
@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
def test_nothing_is_decoded_for_a_caller_who_has_left(
    serve: Serve, gated: GatedDetector, refusals: Told, monkeypatch: pytest.MonkeyPatch, way: str, stream: bool
) -> None:
    decoder = Decoder()
    monkeypatch.setattr("serving.requests.decode_image", decoder)
    served = serve(gated)
    over = threading.Event()
    message = encoded(*[file()] * 50)
    timeout_s = 0.5 if way == "deadline" else PATIENCE_S
    call: Any
    if stream:
        call = served.stub.ClassifyStream(iter([message]), timeout=timeout_s)
    else:
        call = served.stub.Classify.future(message, timeout=timeout_s)
    call.add_callback(over.set)
    assert decoder.started.wait(PATIENCE_S)
    if way == "cancelled":
        call.cancel()
    assert over.wait(PATIENCE_S)
    # A call of the same connection that is answered after it: the server has heard that the other is over.
    served.stub.GetModel(pb.GetModelRequest())
    decoder.free.set()
    line = refusals.lines.get(timeout=PATIENCE_S)
    assert ("DEADLINE_EXCEEDED" if way == "deadline" else "CANCELLED") in line
    assert decoder.count == 1
