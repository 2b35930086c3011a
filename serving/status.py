"""Errors and gRPC statuses: one table, read in both directions.

A class of error that is not in the table never belongs to a caller. It leaves as INTERNAL without
its text, which may hold paths and weights; the text is in the server's log.

gRPC answers a message over the size limit with the code that a full queue has. So that a caller need not read texts
to know which call may succeed later, a full queue is named: `google.rpc.ErrorInfo` in the status's details, which
travel in the trailing metadata `grpc-status-details-bin`, where the libraries of all languages look for them.
"""

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from detector.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    Internal,
    LedgateError,
    NotFound,
    PermissionDenied,
    QueueFull,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
    one_line,
)

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Exception)

CODES: Final[Mapping[type[LedgateError], grpc.StatusCode]] = MappingProxyType(
    {
        InputError: grpc.StatusCode.INVALID_ARGUMENT,
        NotFound: grpc.StatusCode.NOT_FOUND,
        Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
        PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
        ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
        Cancelled: grpc.StatusCode.CANCELLED,
        Unavailable: grpc.StatusCode.UNAVAILABLE,
        Internal: grpc.StatusCode.INTERNAL,
    }
)
DOMAIN: Final = "ledgate.v1"
# What tells a class apart from others that share its code.
REASONS: Final[Mapping[type[LedgateError], str]] = MappingProxyType({QueueFull: "QUEUE_FULL"})
DETAILS: Final = "grpc-status-details-bin"
INTERNAL_TEXT: Final = "internal error; the server's log says more"

_CLASSES: Final = MappingProxyType({code: cls for cls, code in CODES.items()})
# A status travels in the trailer of the call, which clients bound to 8 KiB.
_MAX_TEXT: Final = 1000
# A caller's text in the log is cut.
MAX_ID: Final = 80


def code_of(error: Exception) -> grpc.StatusCode:
    """The one status of an error: that of its class or its nearest base in the table, else INTERNAL."""
    for cls in type(error).__mro__:
        if cls in CODES:
            return CODES[cls]
    return grpc.StatusCode.INTERNAL


def text_of(error: Exception) -> str:
    """What a caller may read of an error, on one line."""
    if code_of(error) is grpc.StatusCode.INTERNAL:
        return INTERNAL_TEXT
    text = one_line(error)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def status_of(error: Exception) -> status_pb2.Status:
    """The same code and text as a message, and the reason where the class has one."""
    number, _ = code_of(error).value
    status = status_pb2.Status(code=number, message=text_of(error))
    reason = REASONS.get(type(error)) if isinstance(error, LedgateError) else None
    if reason is not None:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    return status


def trailer_of(error: Exception) -> tuple[tuple[str, bytes], ...]:
    """What a unary call says beside code and text; nothing where these say it all."""
    status = status_of(error)
    return ((DETAILS, status.SerializeToString()),) if status.details else ()


def error_of(code: grpc.StatusCode, text: str, trailer: Iterable[tuple[str, Any]] = ()) -> LedgateError:
    """The error that a caller meets: the class of the table, or ServiceError for any other code.

    Args:
        code: Of the status.
        text: Of the status.
        trailer: The call's trailing metadata, where a reason may be.
    """
    named = _reasons(next((value for key, value in trailer if key == DETAILS), b""))
    for cls, reason in REASONS.items():
        if reason in named and issubclass(cls, _CLASSES.get(code, ())):
            return cls(text)
    if code in _CLASSES:
        return _CLASSES[code](text)
    return ServiceError(f"{code.name}: {text}")


def _reasons(details: bytes) -> set[str]:
    """The reasons of ours in a status; none where it is not one."""
    found = set()
    try:
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                found.add(info.reason)
    except DecodeError:  # whatever stands between may have written it
        return set()
    return found


def forgotten(error: E) -> E:
    """The same error without the frames that it came through, and without what led to it.

    Those frames hold the call's images. Where one of them, or what it holds, holds the error in its turn, all of it
    would stay in memory until Python's collector comes by, and many refusals would fill the memory before it does.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def id_fields(request_id: str) -> dict[str, Any]:
    """The `extra` of a line of the log about a request."""
    return {"fields": {"request_id": request_id[:MAX_ID]}} if request_id else {}


def log_refusal(error: Exception, request_id: str) -> None:
    """Writes to the log what a caller was refused.

    A caller's mistake is not the operator's concern, and a flood of them must not fill a disk, so
    they show at level DEBUG only. Any error that is not in the table is a bug of ours.
    """
    shown, extra = request_id[:MAX_ID], id_fields(request_id)
    if isinstance(error, LedgateError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        log.debug("request %r: %s: %s", shown, code_of(error).name, text_of(error), extra=extra)
    elif not isinstance(error, Internal):  # whoever raises Internal has written why
        log.error("request %r failed", shown, exc_info=error, extra=extra)
