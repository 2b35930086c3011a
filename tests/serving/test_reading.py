"""Replies as verdicts: what is hidden is None, and what cannot be is refused."""

import math

import numpy as np
import pytest

from detector.errors import Internal
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.reading import read_reply


def result(**fields: object) -> pb.Result:
    values: dict[str, object] = {"class_index": 1, "label": "b", "probabilities": [0.25, 0.5, 0.25]}
    return pb.Result(**(values | fields))  # type: ignore[arg-type]


FULL = {"log_diversity": -1.5, "score": -2.5, "p_value": 0.125, "adversarial": True}


def test_a_full_reply() -> None:
    verdicts = read_reply(pb.ClassifyResponse(results=[result(**FULL), result(**FULL, member_probabilities=[])]), 2)
    assert verdicts.labels.tolist() == [1, 1]
    assert verdicts.labels.dtype == np.int64
    assert verdicts.class_names == ("b", "b")
    assert verdicts.probabilities.tolist() == [[0.25, 0.5, 0.25]] * 2
    for values, expected in (
        (verdicts.log_diversity, -1.5),
        (verdicts.score, -2.5),
        (verdicts.p_values, 0.125),
        (verdicts.adversarial, True),
    ):
        assert values is not None
        assert values.tolist() == [expected] * 2
    assert verdicts.member_probabilities is None


def test_what_is_hidden_is_none() -> None:
    verdicts = read_reply(pb.ClassifyResponse(results=[result(adversarial=False)]), 1)
    assert verdicts.log_diversity is verdicts.score is verdicts.p_values is None
    assert verdicts.adversarial is not None
    assert verdicts.adversarial.tolist() == [False]


def test_members_get_their_axis_back() -> None:
    each = np.arange(6.0).reshape(1, 2, 3)
    verdicts = read_reply(pb.ClassifyResponse(results=[result(member_probabilities=each.ravel())]), 1)
    assert verdicts.member_probabilities is not None
    assert verdicts.member_probabilities.tolist() == each.tolist()


def test_infinity_arrives() -> None:
    verdicts = read_reply(pb.ClassifyResponse(results=[result(score=-math.inf)]), 1)
    assert verdicts.score is not None
    assert verdicts.score.tolist() == [-math.inf]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "reply: expected 2 results, found 0"),
        ([result()] * 3, "reply: expected 2 results, found 3"),
        ([result(score=1.0), result()], "reply: expected score for all images or for none, found it for 1"),
        ([result(score=0.0), result(score=math.nan)], "reply: expected numbers for score, found nan"),
        ([result(p_value=math.nan)] * 2, "reply: expected numbers for p_value, found nan"),
        ([result(), result(probabilities=[1.0])], "reply: expected as many probabilities for each image, found .1, 3"),
        ([result(member_probabilities=[0.5] * 4)] * 2, "reply: expected 3 probabilities for each member, found 4"),
    ],
)
def test_a_reply_that_contradicts_itself_is_refused(results: list[pb.Result], message: str) -> None:
    with pytest.raises(Internal, match=message):
        read_reply(pb.ClassifyResponse(results=results), 2)
