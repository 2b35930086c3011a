"""One stream: requests are read ahead, so that several share a batch, and answered in order.

A thread reads; the thread that gRPC gives the call answers. Between them is a window: when so many
requests have been read and not answered, reading stops, and gRPC's flow control holds the caller up.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

import grpc

from protos.ledgate.v1 import classifier_pb2
from serving.model import Model
from serving.status import log_refusal, status_of
from serving.ticket import Ticket


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A request that is in a model's queue, or has been run."""

    model: Model
    ticket: Ticket

    def cancel(self) -> None:
        """Gives up its place."""
        self.model.batcher.cancel(self.ticket)

    def reply(self) -> classifier_pb2.ClassifyResponse:
        """Waits for the outcome; raises it where it is an error."""
        return self.model.reply(self.ticket.wait(), self.ticket.request_id)


@dataclass(frozen=True, kw_only=True)
class _Refused:
    """A request that was refused when it was read."""

    error: Exception

    def cancel(self) -> None:
        """There is nothing to give up."""

    def reply(self) -> classifier_pb2.ClassifyResponse:
        """Raises why."""
        raise self.error


@dataclass(frozen=True, kw_only=True)
class _Message:
    """A request that has been read and not answered."""

    request_id: str
    outcome: Accepted | _Refused

    def answer(self) -> classifier_pb2.ClassifyStreamResponse:
        """Waits for the answer: the reply, or the status with which a call of its own would have failed."""
        answer = classifier_pb2.ClassifyStreamResponse(request_id=self.request_id)
        try:
            answer.response.CopyFrom(self.outcome.reply())
        except Exception as error:  # noqa: BLE001  one bad message does not end the stream
            log_refusal(error, self.request_id)
            answer.status.CopyFrom(status_of(error))
        return answer


class Stream:
    """The state of one stream.

    Args:
        accept: Checks a request and puts it into a queue.
        window: Most requests that have been read and not answered.

    Attributes:
        drained: The stream ended because the server stops, and not because its caller had finished.
    """

    def __init__(self, accept: Callable[[classifier_pb2.ClassifyRequest], Accepted], *, window: int) -> None:
        self._accept = accept
        self._window = window
        self._condition = threading.Condition()
        self._messages: deque[_Message] = deque()
        self._ended = False
        self.drained = False

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
                self._condition.notify_all()

    def drain(self) -> None:
        """Reads no more; what has been read is answered."""
        with self._condition:
            self.drained = not self._ended
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
        with self._condition:
            self._condition.wait_for(lambda: len(self._messages) < self._window or self._ended)
            return not self._ended

    def _message(self, request: classifier_pb2.ClassifyRequest) -> _Message:
        """A request, accepted or refused."""
        try:
            outcome: Accepted | _Refused = self._accept(request)
        except Exception as error:  # noqa: BLE001  it becomes the answer to this message
            outcome = _Refused(error=error)
        return _Message(request_id=request.request_id, outcome=outcome)

    def _append(self, message: _Message) -> None:
        """Puts a message into the window, unless the stream ended meanwhile."""
        with self._condition:
            if not self._ended:
                self._messages.append(message)
                self._condition.notify_all()
                return
        message.outcome.cancel()
