"""Narrower arithmetic: what becomes of the graph, and how far the logits move."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from detector.ensemble import Ensemble
from detector.errors import InputError, MemberError
from detector.float16 import in_float16
from detector.precision import Precision
from tests.conftest import linear_weights, make_images, make_members, make_model


def run(content: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def test_other_words_are_refused() -> None:
    with pytest.raises(InputError, match=r"^precision: expected float32, float16, bfloat16, found 'half'$"):
        Ensemble(make_members(), device="cpu", precision="half")


def test_float16_is_in_the_graph_and_not_around_it() -> None:
    converted = onnx.load_model_from_string(in_float16(make_members(1)[0], 0))
    ends = [end.type.tensor_type.elem_type for end in (*converted.graph.input, *converted.graph.output)]
    assert ends == [TensorProto.FLOAT] * 2
    assert [weights.data_type for weights in converted.graph.initializer] == [TensorProto.FLOAT16]


def test_float16_is_within_its_rounding_of_a_twin() -> None:
    """A linear member: weights and images rounded, and their products added up."""
    images = make_images(20)
    weights = linear_weights(0).astype(np.float16).astype(np.float64)
    expected = images.astype(np.float16).astype(np.float64).reshape(20, -1) @ weights
    found = run(in_float16(make_members(1)[0], 0), images)
    np.testing.assert_allclose(found, expected, atol=2**-10 * np.abs(expected).max())
    assert (found != run(make_members(1)[0], images)).all()


def test_the_path_says_so() -> None:
    ensemble = Ensemble(make_members(), device="cpu", precision="float16")
    assert str(ensemble.execution_path) == "CPUExecutionProvider float16"
    assert type(ensemble.execution_path.dtype) is str
    exact = Ensemble(make_members(), device="cpu").logits(make_images(5))
    assert 0 < np.abs(ensemble.logits(make_images(5)) - exact).max() < 0.01


def test_operators_that_stay_wide_may_share_a_value() -> None:
    """The converter leaves Min and Max in float32, between casts."""
    nodes = [
        helper.make_node("Max", ["scores"], ["high"]),
        helper.make_node("Min", ["scores", "scores"], ["low"]),
        helper.make_node("Add", ["high", "low"], ["logits"]),
    ]
    content, images = make_model(tail=nodes).SerializeToString(), make_images(5)
    np.testing.assert_allclose(run(in_float16(content, 0), images), run(content, images), atol=0.01)


def test_weights_beyond_its_range_are_cut_to_it() -> None:
    model = make_model(weights=np.full((64, 10), 1e6, np.float32))
    converted = onnx.load_model_from_string(in_float16(model.SerializeToString(), 0))
    assert onnx.numpy_helper.to_array(converted.graph.initializer[0]).max() == np.float16(65504)


def test_a_graph_that_cannot_be_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise AssertionError("no\nway")

    monkeypatch.setattr("onnxruntime.transformers.float16.convert_float_to_float16", fails)
    with pytest.raises(MemberError, match=r"^member 2: expected a graph that goes into float16, found: no way$"):
        in_float16(make_members(1)[0], 2)


def test_names() -> None:
    assert [str(one) for one in Precision] == ["float32", "float16", "bfloat16"]
