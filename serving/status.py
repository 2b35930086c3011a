"""Errors and gRPC statuses: one table, read in both directions.

A class of error that is not in the table never belongs to a caller. It leaves as INTERNAL without
its text, which may hold paths and weights; the text is in the server's log.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc
from google.rpc import status_pb2

from detector.errors import (
    Cancelled,
    DeadlineExceeded,
    InputError,
    Internal,
    LedgateError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServiceError,
    Unauthenticated,
    Unavailable,
)

log = logging.getLogger(__name__)

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
INTERNAL_TEXT: Final = "internal error; the server's log says more"

_CLASSES: Final = MappingProxyType({code: cls for cls, code in CODES.items()})
# A status travels in the trailer of the call, which clients bound to 8 KiB.
_MAX_TEXT: Final = 1000


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
    text = " ".join(str(error).split())
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def status_of(error: Exception) -> status_pb2.Status:
    """The same code and text as a message, for streams."""
    number, _ = code_of(error).value
    return status_pb2.Status(code=number, message=text_of(error))


def error_of(code: grpc.StatusCode, text: str) -> LedgateError:
    """The error that a caller meets: the class of the table, or ServiceError for any other code."""
    if code in _CLASSES:
        return _CLASSES[code](text)
    return ServiceError(f"{code.name}: {text}")


def log_refusal(error: Exception, request_id: str) -> None:
    """Writes to the log what a caller was refused.

    A caller's mistake is not the operator's concern, and a flood of them must not fill a disk, so
    they show at level DEBUG only. Any error that is not in the table is a bug of ours.
    """
    extra = {"fields": {"request_id": request_id[:80]}}
    if isinstance(error, LedgateError) and code_of(error) is not grpc.StatusCode.INTERNAL:
        log.debug("request %r: %s: %s", request_id[:80], code_of(error).name, text_of(error), extra=extra)
    elif not isinstance(error, Internal):  # whoever raises Internal has written why
        log.error("request %r failed", request_id[:80], exc_info=error, extra=extra)
