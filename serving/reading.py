"""A reply as verdicts: the same numbers, bit for bit, that the server computed.

What the server hides is None here, and not NaN: NaN is never below a threshold, and so would look
like a clean image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import Internal
from detector.prediction import Floats
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2


def read_reply(reply: classifier_pb2.ClassifyResponse, count: int) -> Verdicts:
    """Reads a reply to a request of so many images.

    Raises:
        Internal: The reply does not fit the request, contradicts itself, or has a score that is
            not a number.
    """
    results = reply.results
    if len(results) != count:
        raise Internal(f"reply: expected {count} results, found {len(results)}")
    adversarial = _optional(results, "adversarial", np.bool_)
    return Verdicts(
        labels=np.array([result.class_index for result in results], np.int64),
        class_names=tuple(result.label for result in results),
        probabilities=_table(results, "probabilities"),
        log_diversity=_scores(results, "log_diversity"),
        score=_scores(results, "score"),
        p_values=_scores(results, "p_value"),
        adversarial=adversarial,
        member_probabilities=_members(results),
        recalibrated_probabilities=_recalibrated(results),
    )


def _table(results: Sequence[classifier_pb2.Result], name: str) -> Floats:
    """A repeated field of all results, (N, length)."""
    rows = [getattr(result, name) for result in results]
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise Internal(f"reply: expected as many {name} for each image, found {sorted(lengths)}")
    return np.array([list(row) for row in rows], np.float64)


def _recalibrated(results: Sequence[classifier_pb2.Result]) -> Floats | None:
    """(N, L), where the calibration has a temperature."""
    table = _table(results, "recalibrated_probabilities")
    classes = len(results[0].probabilities)
    if table.shape[1] not in (0, classes):
        raise Internal(f"reply: expected {classes} recalibrated probabilities, found {table.shape[1]}")
    return table if table.shape[1] else None


def _members(results: Sequence[classifier_pb2.Result]) -> Floats | None:
    """(N, K, L), where the server has sent it."""
    table = _table(results, "member_probabilities")
    classes = len(results[0].probabilities)
    if table.shape[1] == 0:
        return None
    if classes == 0 or table.shape[1] % classes:
        raise Internal(f"reply: expected {classes} probabilities for each member, found {table.shape[1]} in all")
    return table.reshape(len(results), -1, classes)


def _optional(results: Sequence[classifier_pb2.Result], name: str, dtype: type[Any]) -> NDArray[Any] | None:
    """An optional field of all results, (N,); None where no result has it."""
    present = [result.HasField(name) for result in results]
    if not any(present):
        return None
    if not all(present):
        raise Internal(f"reply: expected {name} for all images or for none, found it for {sum(present)}")
    return np.array([getattr(result, name) for result in results], dtype)


def _scores(results: Sequence[classifier_pb2.Result], name: str) -> Floats | None:
    """An optional number of all results, which may be infinite and must not be NaN."""
    values = _optional(results, name, np.float64)
    if values is not None and np.isnan(values).any():
        raise Internal(f"reply: expected numbers for {name}, found nan")
    return values
