"""The table of errors and statuses, in both directions."""

import logging

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import detector.errors
from detector.errors import (
    BundleError,
    DeadlineExceeded,
    InputError,
    Internal,
    LedgateError,
    NotFound,
    QueueFull,
    ResourceExhausted,
    ServiceError,
    SettingError,
    Unavailable,
)
from serving.status import (
    CODES,
    DETAILS,
    INTERNAL_TEXT,
    code_of,
    error_of,
    log_refusal,
    status_of,
    text_of,
    trailer_of,
)

ALL = [value for value in vars(detector.errors).values() if isinstance(value, type)]
NUMBERS = {  # of the gRPC specification
    grpc.StatusCode.CANCELLED: 1,
    grpc.StatusCode.INVALID_ARGUMENT: 3,
    grpc.StatusCode.DEADLINE_EXCEEDED: 4,
    grpc.StatusCode.NOT_FOUND: 5,
    grpc.StatusCode.PERMISSION_DENIED: 7,
    grpc.StatusCode.UNAUTHENTICATED: 16,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 8,
    grpc.StatusCode.INTERNAL: 13,
    grpc.StatusCode.UNAVAILABLE: 14,
}


# The classes that share a code with their base.
SHARING = (QueueFull, SettingError)


def instance(cls: type[LedgateError]) -> LedgateError:
    return cls("member", "why") if issubclass(cls, detector.errors.MemberError) else cls("why")


def test_no_two_classes_share_a_code() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert set(CODES.values()) == set(NUMBERS)


def test_the_table_holds_all_that_a_call_can_meet() -> None:
    assert set(CODES) == {InputError, *ServiceError.__subclasses__()}


@pytest.mark.parametrize("cls", CODES)
def test_an_error_survives_the_way_to_the_client(cls: type[LedgateError]) -> None:
    error = error_of(code_of(cls("why")), text_of(cls("why")))
    assert type(error) is cls
    assert str(error) == (INTERNAL_TEXT if cls is Internal else "why")


@pytest.mark.parametrize("cls", ALL)
def test_every_error_has_one_status_and_only_callers_errors_tell_their_text(cls: type[LedgateError]) -> None:
    named = cls.__mro__[1] if cls in SHARING else cls
    code = CODES.get(named, grpc.StatusCode.INTERNAL)
    status = status_of(instance(cls))
    assert code_of(instance(cls)) is code
    assert status.code == NUMBERS[code]
    assert status.message == text_of(instance(cls))
    assert ("why" in status.message) == (code is not grpc.StatusCode.INTERNAL)


def test_a_subclass_has_the_status_of_its_base() -> None:
    class Narrow(NotFound):
        pass

    assert code_of(Narrow("x")) is grpc.StatusCode.NOT_FOUND


def test_a_bug_is_internal_and_tells_nothing() -> None:
    assert code_of(KeyError("/srv/secret")) is grpc.StatusCode.INTERNAL
    assert text_of(KeyError("/srv/secret")) == INTERNAL_TEXT


def test_a_code_of_others_is_a_service_error() -> None:
    error = error_of(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    assert type(error) is ServiceError
    assert str(error) == "UNIMPLEMENTED: Method not found!"


def test_a_full_queue_survives_the_way_beside_what_else_is_told() -> None:
    trailer = (("x-request-id", "7"), *trailer_of(QueueFull("why")))
    error = error_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "why", trailer)
    assert type(error) is QueueFull
    assert str(error) == "why"


def test_its_name_is_that_of_googles_error_model() -> None:
    ((key, value),) = trailer_of(QueueFull("why"))
    status = status_pb2.Status.FromString(value)
    info = error_details_pb2.ErrorInfo()
    assert key == "grpc-status-details-bin"
    assert (status.code, status.message, len(status.details)) == (8, "why", 1)
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("QUEUE_FULL", "ledgate.v1")


@pytest.mark.parametrize("cls", CODES)
def test_other_errors_say_it_all_by_code_and_text(cls: type[LedgateError]) -> None:
    assert trailer_of(cls("why")) == ()


def other(reason: str, domain: str) -> bytes:
    """A status with a reason."""
    status = status_pb2.Status(code=8, message="why")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    return bytes(status.SerializeToString())


@pytest.mark.parametrize(
    "trailer",
    [
        (),
        ((DETAILS, b""),),
        ((DETAILS, b"\xff no status"),),
        ((DETAILS, other("QUEUE_FULL", "example.org")),),
        ((DETAILS, other("QUOTA", "ledgate.v1")),),
        (("other-bin", other("QUEUE_FULL", "ledgate.v1")),),
    ],
    ids=["nothing", "empty", "junk", "of another domain", "of another reason", "under another name"],
)
def test_only_our_word_makes_it_a_full_queue(trailer: tuple[tuple[str, bytes], ...]) -> None:
    assert type(error_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "why", trailer)) is ResourceExhausted


def test_a_reason_without_its_code_means_nothing() -> None:
    assert type(error_of(grpc.StatusCode.NOT_FOUND, "why", trailer_of(QueueFull("why")))) is NotFound


def test_a_text_is_one_line_and_fits_a_trailer() -> None:
    assert text_of(InputError("a\n  b")) == "a b"
    assert len(text_of(InputError("x" * 100_000))) < 1100


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (InputError("x"), logging.DEBUG),
        (Unavailable("x"), logging.DEBUG),
        (DeadlineExceeded("x"), logging.DEBUG),
        (BundleError("x"), logging.ERROR),
        (KeyError("x"), logging.ERROR),
    ],
)
def test_a_bug_is_logged_loud_and_a_callers_mistake_is_not(
    error: Exception, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "serving.status")
    log_refusal(error, "id\n7")
    (record,) = caplog.records
    assert record.levelno == level
    assert "'id\\n7'" in record.getMessage()
