"""The threads of calls, and how calls that only wait do without.

gRPC's server gives each call a thread from the moment it is announced: the thread is woken, waits for the message, is
woken again, waits for the answer, is woken a third time. With small networks these hand-overs, and the waiting for
Python's lock at each, took three times the CPU of everything else that a call needs. A `Deferred` behaviour is begun
on gRPC's own thread where its message arrives, and answered on the thread that has its result.

gRPC has no public way to say so, but it hands all that a call needs to the thread pool that it is given, and this one
takes the calls apart: the arguments of `submit` and a few names of `grpc._server`, the same from grpcio 1.78 to 1.85.
Where a later one has changed them, as `fits` tells, every call gets its thread again.
"""

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NoReturn

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from serving.deferred import Deferred
from serving.status import forgotten

log = logging.getLogger(__name__)

# A larger message is a call of its own thread: gRPC's, on which others arrive, would be kept by looking at it.
_LIGHT_BYTES: Final = 1 << 17
_NO_FLAGS: Final = 0
# What gRPC asks of the future of a call is only that it ends.
_TAKEN: Final[Future[None]] = Future()
_TAKEN.set_result(None)

_PARAMETERS: Final = {
    "_unary_response_in_pool": (
        *("rpc_event", "state", "behavior", "argument_thunk"),
        *("request_deserializer", "response_serializer"),
    ),
    "_receive_message": ("state", "call", "request_deserializer"),
    "_abort": ("state", "call", "code", "details"),
    "_Context": ("rpc_event", "state", "request_deserializer"),
}


def fits() -> bool:
    """Whether this grpcio is one whose calls can be taken apart."""
    found = {name: getattr(_server, name, None) for name in _PARAMETERS}
    return (
        all(
            callable(one) and tuple(inspect.signature(one).parameters) == _PARAMETERS[name]
            for name, one in found.items()
        )
        and all(hasattr(_server, name) for name in ("_RECEIVE_MESSAGE_TOKEN", "_CLOSED"))
        and hasattr(cygrpc, "ReceiveMessageOperation")
    )


class CallThreads(ThreadPoolExecutor):
    """The thread pool of a gRPC server.

    Args:
        count: Most threads.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count, thread_name_prefix="call")
        self._takes_apart = fits()
        if not self._takes_apart:
            log.warning("grpcio %s is not known: each call holds a thread while it waits", grpc.__version__)

    def submit(self, run: Callable[..., Any], /, *work: Any, **named: Any) -> Future[Any]:
        """Has a call answered: on a thread of its own, or as a `Deferred` one."""
        if self._takes_apart and len(work) == 7 and isinstance(work[3], Deferred):
            _Call(run, work, super().submit).receive()
            return _TAKEN
        return super().submit(run, *work, **named)


class _Call:
    """A call of a `Deferred` behaviour, from its announcement on."""

    __slots__ = (
        "_behaviour",
        "_deserializer",
        "_event",
        "_parse",
        "_respond",
        "_run",
        "_serializer",
        "_state",
        "_submit",
    )

    def __init__(self, run: Callable[..., Any], work: tuple[Any, ...], submit: Callable[..., Any]) -> None:
        self._run = run
        self._submit = submit
        self._respond, self._event, self._state, self._behaviour, _, self._deserializer, self._serializer = work

    def receive(self) -> None:
        """Asks for the message; gRPC holds the state's lock."""
        call = self._event.call
        self._parse = _server._receive_message(self._state, call, self._deserializer)
        call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._received)
        self._state.due.add(_server._RECEIVE_MESSAGE_TOKEN)

    def _received(self, arrived: Any) -> Any:
        """Takes the message, on gRPC's own thread, which nothing may end; returns what gRPC wants to know."""
        ended = self._parse(arrived)
        try:
            request, self._state.request = self._state.request, None
            if request is None:
                self._refuse_none()
            elif len(arrived.batch_operations[0].message()) <= _LIGHT_BYTES and self._behaviour.light(request):
                self._begin(request)
            else:
                self._submit(self._answer, request, partial(self._behaviour, request))
        except Exception:
            log.exception("a call could not be begun")
            self._abort(cygrpc.StatusCode.unavailable, b"the server has stopped")
        return ended

    def _begin(self, request: Any) -> None:
        """Begins a call, and has it finished once it can be."""
        context = _server._Context(self._event, self._state, self._deserializer)
        try:
            begun = self._run(self._behaviour.begin, request, context)
        except Exception as error:  # noqa: BLE001  gRPC finds out what it means
            self._answer(request, partial(_fail, error))
            forgotten(error)  # which is held by frames of its own traceback
        else:
            begun.then(partial(self._answer, request, begun.finish))

    def _answer(self, request: Any, finish: Callable[[Any], Any]) -> None:
        """Sends what a behaviour answers, or the status that it ends with, by gRPC's own means."""
        self._run(
            *(self._respond, self._event, self._state, lambda _, context: finish(context), lambda: request),
            *(self._deserializer, self._serializer),
        )

    def _refuse_none(self) -> None:
        """What gRPC says to a caller that has sent no message, unless it has already said more."""
        if self._state.client is _server._CLOSED and not self._state.statused:
            method = self._event.call_details.method
            self._abort(cygrpc.StatusCode.unimplemented, b'"%s" requires exactly one request message.' % method)

    def _abort(self, code: Any, details: bytes) -> None:
        """Ends the call."""
        with self._state.condition:
            if not self._state.statused:
                _server._abort(self._state, self._event.call, code, details)


def _fail(error: Exception, _: grpc.ServicerContext) -> NoReturn:
    """Finishes with an error."""
    raise error
