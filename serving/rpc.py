"""What every call of every service needs of gRPC: its end, its deadline, and its status."""

import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

import grpc

from detector.errors import Cancelled, DeadlineExceeded
from serving.calls import given_id
from serving.status import code_of, forgotten, log_refusal, text_of, trailer_of

T = TypeVar("T")


def on_end(context: grpc.ServicerContext, callback: Callable[[], None]) -> None:
    """Calls back when a call is over, answered or given up; at once where it is over already."""
    if not context.add_callback(callback):
        callback()


def remaining_s(context: grpc.ServicerContext) -> float:
    """Seconds until the caller's deadline; infinity without one."""
    seconds = context.time_remaining()
    return math.inf if seconds is None else seconds


def check_wanted(context: grpc.ServicerContext) -> None:
    """Raises where nobody waits for the answer of a call any more.

    Raises:
        DeadlineExceeded: Its deadline has passed.
        Cancelled: The caller has left.
    """
    if remaining_s(context) <= 0:
        raise DeadlineExceeded("the deadline passed before the request was answered")
    if not context.is_active():
        raise Cancelled("the caller has left")


def guarded(context: grpc.ServicerContext, work: Callable[[], T], request_id: str = "") -> T:
    """Does the work of a call; any error becomes the call's status.

    Args:
        context: Of the call.
        work: What it asks for.
        request_id: The caller's; without one the error is logged under the id that the call was given.
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001  a caller never meets anything but a status
        log_refusal(error, request_id or given_id())
        refusal = forgotten(error)
    return refuse(context, refusal)


def refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """Ends a call with an error's status."""
    if trailer := trailer_of(error):
        context.set_trailing_metadata((*(context.trailing_metadata() or ()), *trailer))
    context.abort(code_of(error), text_of(error))
