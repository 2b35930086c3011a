"""Unary calls that hold no thread while they wait: begun on one thread, finished on another."""

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import grpc

T = TypeVar("T")


class Begun(Generic[T]):
    """A call that has been begun.

    Args:
        then: Takes a function, and calls it once the call can be finished; at once where it can be already.
        finish: Answers, or ends the call with a status, as a gRPC behaviour does; waits where it cannot yet.
    """

    __slots__ = ("finish", "then")

    def __init__(
        self, *, then: Callable[[Callable[[], None]], None], finish: Callable[[grpc.ServicerContext], T]
    ) -> None:
        self.then = then
        self.finish = finish


Begin: TypeAlias = Callable[[Any, grpc.ServicerContext], Begun[Any]]


class Deferred:
    """The behaviour of a unary method. Called like any other it waits; `serving.callthreads` does without.

    Args:
        begin: Takes the message and a context; may end the call with a status, and is quick.
        light: Says of a message whether to begin it is quick; one that is not is called on a thread of its own.

    Attributes:
        begin: The same.
        light: The same.
    """

    def __init__(self, begin: Begin, *, light: Callable[[Any], bool]) -> None:
        self.begin = begin
        self.light = light

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The reply."""
        return self.begin(request, context).finish(context)
