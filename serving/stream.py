"""One stream: requests are read ahead, so that several share a batch, and answered in order.

A thread reads; the thread that gRPC gives the call answers. Between them is a window: when so many
requests, or so many images, have been read and not answered, reading stops, and gRPC's flow control holds the caller
up. So it does where the model's queue is full: nobody who can be held up is refused.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc
from google.rpc import status_pb2

from detector.errors import LedgateError, QueueFull
from protos.ledgate.v1 import classifier_pb2
from serving.calls import given_id
from serving.messages import Unreadable
from serving.model import Model
from serving.requestid import MAX_CHARACTERS
from serving.status import forgotten, log_refusal, status_of
from serving.ticket import Ticket

# Where a queue is full, so long until it is asked again.
_AGAIN_S: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A request that is in a model's queue, or has been run."""

    model: Model
    ticket: Ticket

    @property
    def images(self) -> int:
        """How many it has."""
        return self.ticket.count

    def cancel(self) -> None:
        """Gives up its place."""
        self.model.batcher.cancel(self.ticket)

    def reply(self, request_id: str) -> classifier_pb2.ClassifyResponse:
        """Waits for the outcome; raises it where it is an error. The reply has the caller's id."""
        return self.model.reply(self.ticket.wait(), request_id)


@dataclass(frozen=True, kw_only=True)
class _Refused:
    """A request that was refused when it was read. Not the error, which would hold the request."""

    status: status_pb2.Status
    images: int = 0

    def cancel(self) -> None:
        """There is nothing to give up."""


@dataclass(frozen=True, kw_only=True)
class _Message:
    """A request that has been read and not answered."""

    request_id: str
    outcome: Accepted | _Refused

    def answer(self) -> classifier_pb2.ClassifyStreamResponse:
        """Waits for the answer: the reply, or the status with which a call of its own would have failed."""
        answer = classifier_pb2.ClassifyStreamResponse(request_id=self.request_id)
        if isinstance(self.outcome, _Refused):
            answer.status.CopyFrom(self.outcome.status)
            return answer
        try:
            answer.response.CopyFrom(self.outcome.reply(self.request_id))
        except Exception as error:  # noqa: BLE001  one bad message does not end the stream
            answer.status.CopyFrom(_refused(error, self.request_id))
        return answer


class Stream:
    """The state of one stream.

    Args:
        accept: Checks a request and puts it into a queue.
        window: Most requests that have been read and not answered.
        ahead: So many images wait behind the request whose turn it is to be answered, and no more is read.
        clock: Seconds, never going back.

    Attributes:
        refusal: Why the stream ended before its caller had finished; None where it did not.
    """

    def __init__(
        self,
        accept: Callable[[classifier_pb2.ClassifyRequest], Accepted],
        *,
        window: int,
        ahead: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accept = accept
        self._window = window
        self._ahead = ahead
        self._clock = clock
        self._condition = threading.Condition()
        self._messages: deque[_Message] = deque()
        self._ended = False
        self._idle_since_s = clock()
        self.refusal: LedgateError | None = None

    def responses(
        self, requests: Iterator[classifier_pb2.ClassifyRequest]
    ) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        """Answers requests in order until there are no more."""
        reader = partial(copy_context().run, self._read, requests)  # in the context of the call
        threading.Thread(target=reader, name="stream reader", daemon=True).start()
        while (message := self._first()) is not None:
            yield message.answer()
            with self._condition:
                self._messages.popleft()
                self._idle_since_s = self._clock()
                self._condition.notify_all()

    def idle_s(self, now_s: float) -> float:
        """For how long it has had nothing to answer, at a time of its clock."""
        with self._condition:
            return 0.0 if self._messages else now_s - self._idle_since_s

    def end(self, why: LedgateError) -> None:
        """Reads no more; what has been read is answered, and then the call ends with this error."""
        with self._condition:
            if not self._ended:
                self.refusal = why
            self._ended = True
            self._condition.notify_all()

    def cancel(self) -> None:
        """Gives everything up: the call is over."""
        with self._condition:
            self._ended = True
            messages = list(self._messages)
            self._condition.notify_all()
        for message in messages:
            message.outcome.cancel()

    def _first(self) -> _Message | None:
        """Waits for the oldest message; None at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._messages or self._ended)
            return self._messages[0] if self._messages else None

    def _read(self, requests: Iterator[classifier_pb2.ClassifyRequest]) -> None:
        """The thread that reads."""
        try:
            while self._has_room() and (request := next(requests, None)) is not None:
                self._append(self._message(request))
        except grpc.RpcError:
            pass  # the caller has left, and `cancel` is called
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _has_room(self) -> bool:
        """Waits until the window has room; False where nothing is to be read any more."""

        def room() -> bool:
            behind = sum(message.outcome.images for message in itertools.islice(self._messages, 1, None))
            return len(self._messages) < self._window and behind < self._ahead

        with self._condition:
            self._condition.wait_for(lambda: room() or self._ended)
            return not self._ended

    def _message(self, request: classifier_pb2.ClassifyRequest | Unreadable) -> _Message:
        """A request, accepted or refused."""
        request_id = ""
        try:
            if isinstance(request, Unreadable):
                request.refuse()
            request_id = request.request_id[:MAX_CHARACTERS]  # one that is longer is refused, not told back
            outcome: Accepted | _Refused = self._accepted(request)
        except Exception as error:  # noqa: BLE001  it becomes the answer to this message
            outcome = _Refused(status=_refused(error, request_id))
        return _Message(request_id=request_id, outcome=outcome)

    def _accepted(self, request: classifier_pb2.ClassifyRequest) -> Accepted:
        """Puts a request into its queue, as soon as there is room; raises where it is refused."""
        while True:
            try:
                return self._accept(request)
            except QueueFull:
                with self._condition:
                    self._condition.wait_for(lambda: self._ended, _AGAIN_S)
                    if self._ended:
                        raise

    def _append(self, message: _Message) -> None:
        """Puts a message into the window, unless the stream ended meanwhile."""
        with self._condition:
            if not self._ended:
                self._messages.append(message)
                self._condition.notify_all()
                return
        message.outcome.cancel()


def _refused(error: Exception, request_id: str) -> status_pb2.Status:
    """The answer to a message that is refused."""
    log_refusal(error, request_id or given_id())
    return status_of(forgotten(error))
