"""What every call of every service needs of gRPC: its end, its deadline, and its status."""

import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

import grpc

from serving.status import code_of, log_refusal, text_of, trailer_of

T = TypeVar("T")


def on_end(context: grpc.ServicerContext, callback: Callable[[], None]) -> None:
    """Calls back when a call is over, answered or given up; at once where it is over already."""
    if not context.add_callback(callback):
        callback()


def remaining_s(context: grpc.ServicerContext) -> float:
    """Seconds until the caller's deadline; infinity without one."""
    seconds = context.time_remaining()
    return math.inf if seconds is None else seconds


def guarded(context: grpc.ServicerContext, work: Callable[[], T], request_id: str = "") -> T:
    """Does the work of a call; any error becomes the call's status."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  a caller never meets anything but a status
        log_refusal(error, request_id)
        refusal = error
    return refuse(context, refusal)


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """Ends a call with an error's status."""
    if trailer := trailer_of(error):
        context.set_trailing_metadata((*(context.trailing_metadata() or ()), *trailer))
    context.abort(code_of(error), text_of(error))
