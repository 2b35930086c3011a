"""What an answer says: how many images it flags, and, where that is asked, whether it is well-formed.

The same request is mostly answered with the same bytes. They are read once and compared from then on, so that
reading costs next to nothing and yet every answer is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from detector.errors import Internal
from protos.ledgate.v1 import classifier_pb2
from serving.bench.payloads import Payload
from serving.reading import read_reply

OK: Final = grpc.StatusCode.OK.name
MALFORMED: Final = "MALFORMED"  # beside gRPC's own codes
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}

Decode = Callable[[bytes], tuple[str, str, classifier_pb2.ClassifyResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended.

    Attributes:
        code: Name of gRPC's code, or `MALFORMED`.
        details: Of an error, the words.
        judged: Images of which the answer says whether they are flagged.
        flagged: Images that are.
    """

    code: str
    details: str = ""
    judged: int = 0
    flagged: int = 0


class Answers:
    """Reads replies.

    Args:
        decode: What the reply's bytes are.
        classes: L of the model.
        check: Whether to read all of an answer.
    """

    def __init__(self, decode: Decode, *, classes: int, check: bool) -> None:
        self._decode = decode
        self._classes = classes
        self._check = check
        # The last reply to each request. Of the pool's size, which is bounded.
        self._known: dict[int, tuple[bytes, Answer]] = {}

    def read(self, payload: Payload, reply: bytes) -> Answer:
        """What a reply to a request says."""
        known = self._known.get(payload.number)
        if known is None or known[0] != reply:
            known = self._known[payload.number] = (reply, self._read(payload, reply))
        return known[1]

    def _read(self, payload: Payload, reply: bytes) -> Answer:
        """Reads the bytes."""
        try:
            code, details, message = self._decode(reply)
            if code != OK:
                return Answer(code=code, details=details)
            if self._check:
                check_reply(message, payload.images, self._classes)
        except (DecodeError, Internal) as error:
            return Answer(code=MALFORMED, details=str(error))
        said = [result.adversarial for result in message.results if result.HasField("adversarial")]
        return Answer(code=OK, judged=len(said), flagged=sum(said))


def decode_reply(reply: bytes) -> tuple[str, str, classifier_pb2.ClassifyResponse]:
    """The reply of `Classify`."""
    return OK, "", classifier_pb2.ClassifyResponse.FromString(reply)


def decode_stream_reply(reply: bytes) -> tuple[str, str, classifier_pb2.ClassifyResponse]:
    """A reply of `ClassifyStream`, which may be a status."""
    message = classifier_pb2.ClassifyStreamResponse.FromString(reply)
    if message.HasField("status"):
        status = message.status
        return _CODES.get(status.code, grpc.StatusCode.UNKNOWN.name), status.message, message.response
    return OK, "", message.response


def check_reply(reply: classifier_pb2.ClassifyResponse, images: int, classes: int) -> None:
    """Whether a reply is what the protocol promises, for so many images.

    Raises:
        Internal: It is not.
    """
    verdicts = read_reply(reply, images)
    shape = (images, classes)
    if verdicts.probabilities.shape != shape:
        raise Internal(f"reply: expected probabilities {shape}, found {verdicts.probabilities.shape}")
    if not np.allclose(verdicts.probabilities.sum(axis=1), 1):
        raise Internal("reply: expected probabilities that sum to 1, found others")
    if (verdicts.labels != verdicts.probabilities.argmax(axis=1)).any():
        raise Internal("reply: expected the class with the largest probability, found another")
