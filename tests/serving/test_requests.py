"""The images of a request: whose memory they are in, and when their reading ends early."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detector.errors import Cancelled
from detector.inputspec import InputSpec
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.config import ServerConfig
from serving.requests import RequestReader
from tests.serving.conftest import SHAPE
from tests.serving.test_refusals import encoded, file

READER = RequestReader(InputSpec(shape=SHAPE), ServerConfig())


@pytest.mark.parametrize(("dtype", "kind"), [(pb.UINT8, np.uint8), (pb.FLOAT32, np.float32)], ids=["uint8", "float32"])
def test_a_tensor_is_not_copied(dtype: int, kind: type[np.generic]) -> None:
    data = np.ones((3, *SHAPE), kind).tobytes()
    # A message copies its bytes with every look at them, so one that does not stands for it.
    tensor = SimpleNamespace(dtype=dtype, shape=(3, *SHAPE), data=data)
    message: Any = SimpleNamespace(tensor=tensor, WhichOneof=lambda _: "tensor")
    images = READER.images(message, lambda _: None)
    assert images.dtype == kind
    assert np.shares_memory(images, np.frombuffer(data, np.uint8))


def test_whether_the_answer_is_wanted_is_asked_before_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, asked = [], []

    def decode(content: bytes, *_: object, **__: object) -> np.ndarray:
        decoded.append(content)
        return np.zeros(SHAPE, np.uint8)

    def check_wanted() -> None:
        asked.append(len(decoded))
        if len(asked) == 3:
            raise Cancelled("the caller has left")

    monkeypatch.setattr("serving.requests.decode_image", decode)
    with pytest.raises(Cancelled):
        READER.images(encoded(*[file()] * 9), lambda _: None, check_wanted)
    assert asked == [0, 1, 2]
    assert len(decoded) == 2
