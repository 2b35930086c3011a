"""What is read from replies."""

import math

import pytest
from google.rpc import status_pb2

from protos.ledgate.v1 import classifier_pb2 as pb
from serving.bench.answers import MALFORMED, Answer, Answers, decode_reply, decode_stream_reply
from serving.bench.payloads import Payload
from tests.serving.bench.conftest import CLASSES, reply


def payload(number: int = 0, images: int = 2) -> Payload:
    return Payload(number=number, images=images, content=b"")


def answers(*, check: bool = False) -> Answers:
    return Answers(decode_reply, classes=CLASSES, check=check)


def test_flags_are_counted() -> None:
    found = answers().read(payload(images=5), reply(5, flagged=2).SerializeToString())
    assert found == Answer(code="OK", judged=5, flagged=2)


def test_without_a_calibration_nothing_is_judged() -> None:
    message = pb.ClassifyResponse(results=[pb.Result(class_index=1)])
    assert answers().read(payload(), message.SerializeToString()) == Answer(code="OK")


def test_another_reply_to_the_same_request_is_read_again() -> None:
    reading = answers()
    assert [reading.read(payload(), reply(2, flagged=n).SerializeToString()).flagged for n in (0, 2, 2, 1)] == [
        0,
        2,
        2,
        1,
    ]


def test_a_status_in_a_stream_is_an_error() -> None:
    message = pb.ClassifyStreamResponse(status=status_pb2.Status(code=8, message="full"))
    found = Answers(decode_stream_reply, classes=CLASSES, check=True).read(payload(), message.SerializeToString())
    assert found == Answer(code="RESOURCE_EXHAUSTED", details="full")


def test_a_response_in_a_stream_is_an_answer() -> None:
    message = pb.ClassifyStreamResponse(response=reply(2, flagged=1))
    found = Answers(decode_stream_reply, classes=CLASSES, check=True).read(payload(), message.SerializeToString())
    assert found == Answer(code="OK", judged=2, flagged=1)


def spoilt(name: str) -> pb.ClassifyResponse:
    message = reply(2)
    result = message.results[1]
    if name == "an image too few":
        del message.results[1]
    elif name == "a score that is no number":
        result.score = math.nan
    elif name == "another class":
        result.class_index = 2
    elif name == "no sum of 1":
        result.probabilities[0] = 0.5
    elif name == "other classes":
        for each in message.results:
            each.probabilities[:] = [0.0, 1.0]
    return message


SPOILT = ["an image too few", "a score that is no number", "another class", "no sum of 1", "other classes"]


@pytest.mark.parametrize("name", SPOILT)
def test_a_check_finds_what_is_not_well_formed(name: str) -> None:
    found = answers(check=True).read(payload(), spoilt(name).SerializeToString())
    assert found.code == MALFORMED
    assert found.details.startswith("reply: expected ")


def test_a_check_lets_a_well_formed_answer_pass() -> None:
    assert answers(check=True).read(payload(), reply(2).SerializeToString()).code == "OK"


def test_what_is_no_message_is_malformed_without_a_check_too() -> None:
    assert answers().read(payload(), b"\xff\xff\xff").code == MALFORMED
