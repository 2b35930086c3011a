"""Around every call of every service: who may make it, and how it ended.

One gRPC interceptor asks for the caller's token where tokens are asked for, and tells observers of
each answer: metrics count it, the access log writes it. Health stays open and is not observed, since
whoever starts and stops servers has no token, and asks every few seconds.
"""

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from detector.errors import Unauthenticated
from protos.ledgate.v1 import classifier_pb2
from serving.deferred import Begin, Begun, Deferred
from serving.status import code_of, text_of
from serving.tokens import Tokens

log = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
_OPEN: Final = "/grpc.health.v1.Health/"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
# gRPC runs the handler of a call in the context in which its interceptors ran.
_caller: ContextVar[str] = ContextVar("caller", default="")
_given: ContextVar[str] = ContextVar("given", default="")

Behaviour: TypeAlias = Callable[[Any, Any], Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(slots=True)  # neither frozen nor keyword-only: one is made for each call, and that would triple its price
class Answered:
    """A call, or one message of a stream of requests, that has been answered.

    Attributes:
        method: Service and method, for example `ledgate.v1.Classifier/Classify`.
        code: How it ended.
        seconds: From the caller's message to the reply; of a stream, from the reading of each message to its reply, and
            None for the stream itself, which takes what it takes.
        request_id: The caller's, else the server's where it names requests; empty where nobody gave one.
        reply: The answer; None where the call was refused.
        caller: Name of the caller's token; empty where no tokens are asked for.
        peer: The caller's address, as gRPC writes it.
    """

    method: str
    code: grpc.StatusCode
    seconds: float | None
    request_id: str
    reply: Any
    caller: str
    peer: str


Observer: TypeAlias = Callable[[Answered], None]


class Calls(grpc.ServerInterceptor):
    """The interceptor.

    Args:
        observers: Told of every answer, on the thread that gives it, a batch's perhaps; they have to be quick.
        tokens: Without one of these a call is UNAUTHENTICATED; None lets everybody in.
        naming: Whether a call without a request id is given one, which its caller learns from the
            trailing metadata `x-request-id`. A stream is given one for all its messages without.
    """

    def __init__(
        self, observers: Sequence[Observer] = (), *, tokens: Tokens | None = None, naming: bool = False
    ) -> None:
        self._observers = observers
        self._naming = naming
        self._tokens = tokens
        # method -> the handler it was made for, and the one that is observed
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of a call: the service's, observed, or one that refuses."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_OPEN):
            return handler
        if self._tokens is not None:
            try:
                _caller.set(self._tokens.caller(handler_call_details.invocation_metadata))
            except Unauthenticated as error:
                # Made before the message is parsed: a stranger costs as little as can be.
                return self._observed(method, _refusing(handler, error))
        known = self._wrapped.get(method)
        if known is None or known[0] is not handler:
            known = self._wrapped[method] = (handler, self._observed(method, handler))
        return known[1]

    def _observed(self, method: str, handler: Handler) -> Handler:
        """A handler that tells the observers how it ended."""
        if not self._observers and not self._naming:
            return handler
        name, behaviour = method.lstrip("/"), behaviour_of(handler)
        if handler.response_streaming:
            observed = self._stream(name, behaviour, asked=handler.request_streaming)
        elif isinstance(behaviour, Deferred):
            observed = Deferred(self._deferred(name, behaviour), light=behaviour.light)
        else:
            observed = self._unary(name, behaviour)
        return handler_like(handler, observed, handler.request_deserializer)

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        """A call with one reply."""

        def observed(request: Any, context: Any) -> Any:
            return self._told(method, self._begun(request, context), partial(behaviour, request), context)

        return observed

    def _deferred(self, method: str, behaviour: Deferred) -> Begin:
        """A call with one reply, which is begun first and finished later."""

        def observed(request: Any, context: Any) -> Begun[Any]:
            started = self._begun(request, context)
            try:
                begun = behaviour.begin(request, context)
            except BaseException:
                self._note(method, started, None, context)
                raise
            return Begun(then=begun.then, finish=partial(self._told, method, started, begun.finish))

        return observed

    def _begun(self, request: Any, context: Any) -> tuple[float, str]:
        """When a call began, and its request id."""
        begun_s = time.perf_counter()
        return begun_s, _request_id(request) or (_named(context) if self._naming else "")

    def _told(self, method: str, started: tuple[float, str], finish: Callable[[Any], Any], context: Any) -> Any:
        """What a call is answered; the observers are told, also where that is an error."""
        reply = None
        try:
            reply = finish(context)
        finally:
            self._note(method, started, reply, context)
        return reply

    def _note(self, method: str, started: tuple[float, str], reply: Any, context: Any) -> None:
        """Tells the observers how a call with one reply has ended."""
        begun_s, request_id = started
        code = context.code() or (grpc.StatusCode.UNKNOWN if reply is None else grpc.StatusCode.OK)
        seconds = time.perf_counter() - begun_s
        self._tell(Answered(method, code, seconds, request_id, reply, _caller.get(), context.peer()))

    def _stream(self, method: str, behaviour: Behaviour, *, asked: bool) -> Behaviour:
        """A call with many replies. Of ours each is an answer of its own; others are one, at their end.

        Args:
            method: Its name.
            behaviour: What answers.
            asked: Whether there are many messages too, each of which has one reply, in their order.
        """

        def observed(request: Any, context: Any) -> Iterator[Any]:
            caller, peer = _caller.get(), context.peer()
            named = _named(context) if self._naming else ""
            told, ended = False, False
            read_s: deque[float] = deque()  # of the messages without a reply
            try:
                for reply in behaviour(_timed(request, read_s) if asked else request, context):
                    seconds = time.perf_counter() - read_s.popleft() if read_s else None
                    if isinstance(reply, classifier_pb2.ClassifyStreamResponse):
                        told = True
                        answer = None if reply.HasField("status") else reply.response
                        request_id = reply.request_id or named
                        self._tell(Answered(method, _outcome(reply), seconds, request_id, answer, caller, peer))
                    yield reply
                ended = True
            finally:
                code = context.code() or (grpc.StatusCode.OK if ended else grpc.StatusCode.CANCELLED)
                if not told or code is not grpc.StatusCode.OK:
                    self._tell(Answered(method, code, None, named, None, caller, peer))

        return observed

    def _tell(self, answered: Answered) -> None:
        """Tells all observers; one that fails is written to the log and costs the caller nothing."""
        for observer in self._observers:
            try:
                observer(answered)
            except Exception:
                log.exception("%s: an observer failed", answered.method)


def caller_of(context: grpc.ServicerContext) -> str:
    """Who makes the call in whose context this runs: the name of his token, else the address of his connection."""
    return _caller.get() or context.peer()


def given_id() -> str:
    """The id that the call in whose context this runs was given; empty where its caller gave one, or nobody did."""
    return _given.get()


def _request_id(request: Any) -> str:
    """The id that the caller gave, in our protocol or the Open Inference Protocol."""
    return str(getattr(request, "request_id", "") or getattr(request, "id", ""))


def _named(context: Any) -> str:
    """A new id, which the caller is told, and whoever answers the call finds by `given_id`."""
    request_id = secrets.token_hex(8)
    _given.set(request_id)
    context.set_trailing_metadata(((REQUEST_ID, request_id),))
    return request_id


def _timed(requests: Iterator[Any], read_s: deque[float]) -> Iterator[Any]:
    """The messages of a stream as they come; says when each was read. It holds none of them, as a generator would."""

    def read(request: Any) -> Any:
        read_s.append(time.perf_counter())
        return request

    return map(read, requests)


def _outcome(reply: classifier_pb2.ClassifyStreamResponse) -> grpc.StatusCode:
    """How one message of a stream ended."""
    if not reply.HasField("status"):
        return grpc.StatusCode.OK
    return _CODES.get(reply.status.code, grpc.StatusCode.UNKNOWN)


def _refusing(handler: Handler, error: Exception) -> Handler:
    """A handler of the same kind that refuses every call, its message unread."""

    def refuse(_: Any, context: grpc.ServicerContext) -> NoReturn:
        context.abort(code_of(error), text_of(error))

    return handler_like(handler, refuse, None)


def behaviour_of(handler: Any) -> Behaviour:
    """What a handler does: the one function that it has."""
    found = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    behaviour: Behaviour | None = next(filter(None, found), None)
    assert behaviour is not None
    return behaviour


def handler_like(like: Handler, behaviour: Behaviour, read: Any) -> Handler:
    """A handler of the same kind with another behaviour, and another way to read messages."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(like.request_streaming), bool(like.response_streaming)]
    return make(behaviour, read, like.response_serializer)
