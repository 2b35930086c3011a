"""A member's graph with float16 inside, for the CPU and for CUDA; TensorRT makes its own.

ONNX Runtime's CPU computes float16 convolutions in float32, between rounded weights and rounded activations. So there
float16 can be tried out, and gains nothing.
"""

from typing import Any

import onnx

from detector.errors import MemberError, one_line


def in_float16(content: bytes, number: int) -> bytes:
    """Converts a member; its input and output stay float32.

    A weight beyond the range of float16, 65,504, becomes the end of that range; an activation becomes infinity, and
    logits that are not finite are never answered with.

    Args:
        content: A serialized ONNX model that `detector.member` has passed.
        number: Which member, for messages.

    Raises:
        MemberError: The graph cannot be converted.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_model_from_string(content)
    try:
        converted = convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:  # noqa: BLE001  shape inference and the converter have no common class of errors
        text = one_line(error)[:300]
        raise MemberError(str(number), f"expected a graph that goes into float16, found: {text}") from None
    _drop_repeats(converted.graph)
    return bytes(converted.SerializeToString())


def _drop_repeats(graph: Any) -> None:
    """The converter widens a value once for each operator that needs it wide, each time under the same name."""
    made: set[str] = set()
    for node in list(graph.node):
        if made.issuperset(node.output):
            graph.node.remove(node)
        made.update(node.output)
