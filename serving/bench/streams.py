"""Messages of `ClassifyStream`, over a few streams that take turns; on each, answers come in order."""

import itertools
import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, Final

import grpc

from serving.bench.answers import OK
from serving.bench.payloads import Payload
from serving.bench.unary import Done

_METHOD: Final = "/ledgate.v1.Classifier/ClassifyStream"


class Streams:
    """Sends requests over so many streams; one that breaks is opened again.

    A message has no deadline of its own, as gRPC has deadlines of whole streams only. What waits for the server's
    window to have room waits as the caller does, and counts.

    Args:
        channel: To the server.
        count: Streams.
        metadata: Sent with each.
    """

    def __init__(self, channel: grpc.Channel, *, count: int, metadata: Sequence[tuple[str, str]]) -> None:
        self._method: Any = channel.stream_stream(_METHOD)  # bytes in, bytes out
        self._metadata = tuple(metadata)
        self._places = itertools.cycle(range(count))
        self._streams = [self._open() for _ in range(count)]
        self._lock = threading.Lock()

    def send(self, payload: Payload, done: Done) -> None:
        """See `serving.bench.unary.Sender`."""
        with self._lock:
            place = next(self._places)
            if not self._streams[place].send(payload.content, done):
                self._streams[place] = self._open()
                self._streams[place].send(payload.content, done)

    def _open(self) -> "_Stream":
        """Another stream."""
        return _Stream(self._method, self._metadata)


class _Stream:
    """One stream, with a thread that reads its answers."""

    def __init__(self, method: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self._lock = threading.Lock()
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting: deque[Done] = deque()
        self._ended = False
        self._call = method(iter(self._requests.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="bench stream", daemon=True).start()

    def send(self, content: bytes, done: Done) -> bool:
        """Sends a message; False where the stream has ended."""
        with self._lock:
            if self._ended:
                return False
            self._waiting.append(done)
            self._requests.put(content)
            return True

    def _read(self) -> None:
        """The thread: tells of each answer, and at the end of those that will not come."""
        code, details = grpc.StatusCode.UNKNOWN.name, "the stream ended before the answer"
        try:
            for reply in self._call:
                self._waiting.popleft()(OK, reply, "")
        except grpc.RpcError:
            code, details = self._call.code().name, self._call.details() or "no details"
        with self._lock:
            self._ended = True
        self._requests.put(None)  # ends gRPC's thread that takes them
        for done in self._waiting:
            done(code, None, details)
