"""One member: an ONNX file, read as hostile.

A file may come from anywhere, so before ONNX Runtime sees it: standard operators only, nothing
outside the file, bounded sizes, no endless loops, no dice. What passes takes float32 images of one
size in [0, 1], any number of them at a time, and answers with one row of logits each.

Sizes are bounded where they follow from shapes and constants. Where the graph computes one, it is
for ONNX Runtime to fail when memory is short.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError

from detector.errors import MemberError, one_line
from detector.files import read_file

MAX_BYTES: Final = 1 << 30
MAX_NODES: Final = 100_000
MAX_ELEMENTS: Final = 1 << 28  # of one tensor, for one image
MAX_TOTAL: Final = 1 << 32  # of all tensors together, for one image
_SMALL: Final = 1 << 10  # elements of a constant that shapes may be computed from
_DOMAINS: Final = ("", "ai.onnx")
_ENDLESS: Final = frozenset({"Loop", "Scan", "SequenceMap"})
_DICE: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member that passed.

    Attributes:
        name: How messages call it: its file.
        model: The parsed graph.
        input: Name of the graph's input.
        shape: (C, H, W) of its images.
        output: Name of the graph's output.
    """

    name: str
    model: Any
    input: str
    shape: tuple[int, int, int]
    output: str

    @property
    def content(self) -> bytes:
        """The member as a file's bytes, the same for the same graph."""
        return bytes(self.model.SerializeToString(deterministic=True))


def read_member(path: Path) -> Member:
    """Reads a member from a file.

    Raises:
        MemberError: See `parse_member`; or no such file, or one over 1 GiB.
    """
    content = read_file(path, lambda found: MemberError(str(path), found), limit=MAX_BYTES)
    return parse_member(content, str(path))


def parse_member(content: bytes, name: str) -> Member:
    """Parses a member and refuses what is not allowed.

    Args:
        content: A serialized ONNX model.
        name: How messages call it.

    Raises:
        MemberError: Not ONNX, operators outside the standard, functions, external data, sparse
            weights, loops, random operators, sizes out of bounds, or an input or output of another
            form.
    """
    if len(content) > MAX_BYTES:
        raise MemberError(name, f"expected at most {MAX_BYTES} bytes, found {len(content)}")
    model = _parse(content, name)
    nodes = 0
    for graph in graphs(model.graph):
        nodes += len(graph.node)
        if nodes > MAX_NODES:
            raise MemberError(name, f"expected at most {MAX_NODES} nodes, found more")
        _check_constants(graph, name)
        _check_nodes(graph, name)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # noqa: BLE001  onnx raises its own C++ errors, without a common class
        raise MemberError(name, f"expected a valid ONNX graph, found: {_start_of(error)}") from None
    source, shape = _input(model.graph, name)
    output = _output(model.graph, name)
    _check_sizes(model, source, name)
    return Member(name=name, model=model, input=source, shape=shape, output=output)


def _parse(content: bytes, name: str) -> Any:
    """Bytes to a model that has a graph, and no functions beside it."""
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise MemberError(name, f"expected an ONNX model, found bytes that are none ({_start_of(error)})") from None
    if not model.HasField("graph") or not model.graph.node:
        raise MemberError(name, "expected an ONNX model with a graph, found none")
    for function in model.functions:
        raise MemberError(
            name,
            f"expected one graph, found the function '{function.domain}.{function.name}' beside it; "
            "onnx.inliner.inline_local_functions puts functions into the graph",
        )
    return model


def graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)
            for inner in attribute.graphs:
                yield from graphs(inner)


def _check_constants(graph: Any, name: str) -> None:
    """Weights in the file, since outside it they could be any file of this machine; and as large as they claim."""
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if graph.sparse_initializer or any(a.HasField("sparse_tensor") or a.sparse_tensors for a in attributes):
        raise MemberError(name, "expected dense weights, found sparse ones; a few bytes of them ask for any size")
    inside = [tensor for a in attributes for tensor in (a.t, *a.tensors)]
    for tensor in (*graph.initializer, *inside):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise MemberError(
                name,
                f"expected all weights inside the file, found external data for '{tensor.name}'; "
                "export with external_data=False",
            )


def _check_nodes(graph: Any, name: str) -> None:
    """Operators of the standard, which end and always answer the same."""
    for node in graph.node:
        if node.domain not in _DOMAINS:
            raise MemberError(name, f"expected standard ONNX operators only, found '{node.domain}.{node.op_type}'")
        if node.op_type in _ENDLESS:
            raise MemberError(name, f"expected a graph without loops, found '{node.op_type}'")
        if node.op_type in _DICE:
            raise MemberError(name, f"expected the same answer each time, found the random operator '{node.op_type}'")


def _check_sizes(model: Any, source: str, name: str) -> None:
    """A few bytes can ask for a terabyte: bounds what follows from the graph, for one image."""
    try:
        # Without data_prop, which makes the very arrays that are to be refused.
        inferred = onnx.shape_inference.infer_shapes(_skeleton(model, source))
    except Exception as error:  # noqa: BLE001  onnx raises its own C++ errors, without a common class
        raise MemberError(name, f"expected a valid ONNX graph, found: {_start_of(error)}") from None
    total = 0
    for graph in graphs(inferred.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            elements = math.prod(d for d in _dimensions(value) if isinstance(d, int) and d >= 0)
            total += elements
            if elements > MAX_ELEMENTS:
                found = f"{elements} in '{value.name}'"
                raise MemberError(name, f"expected tensors up to {MAX_ELEMENTS} elements, found {found}")
    if total > MAX_TOTAL:
        raise MemberError(name, f"expected up to {MAX_TOTAL} elements in all tensors together, found {total}")


def _skeleton(model: Any, source: str) -> Any:
    """A copy for one image, without large weights, and without what the file claims of sizes in between."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for graph in graphs(bare.graph):
        del graph.value_info[:]
        for value in graph.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
    inputs = {value.name: value for value in bare.graph.input}
    inputs[source].type.tensor_type.shape.dim[0].dim_value = 1
    weights = list(bare.graph.initializer)
    del bare.graph.initializer[:]
    for tensor in weights:
        if math.prod(tensor.dims) <= _SMALL:  # may be a shape
            bare.graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def _input(graph: Any, name: str) -> tuple[str, tuple[int, int, int]]:
    """The graph's one input: float32, (batch, C, H, W), the batch open and the rest fixed."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise MemberError(name, f"expected one input, found {len(inputs)}: {', '.join(v.name for v in inputs)}")
    value = inputs[0]
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        raise MemberError(name, f"expected a float32 input, found {_type(kind.elem_type)} in '{value.name}'")
    dimensions = _dimensions(value)
    if len(dimensions) != 4:
        raise MemberError(name, f"expected an input (N, C, H, W), found {_shown(dimensions)} in '{value.name}'")
    if isinstance(dimensions[0], int):
        raise MemberError(
            name,
            f"expected an open batch axis, found it fixed to {dimensions[0]} in '{value.name}'; "
            "export with a dynamic first axis",
        )
    sizes = [size for size in dimensions[1:] if isinstance(size, int) and size > 0]
    if len(sizes) != 3:
        raise MemberError(name, f"expected fixed C, H, W, found {_shown(dimensions)} in '{value.name}'")
    channels, height, width = sizes
    return value.name, (channels, height, width)


def _output(graph: Any, name: str) -> str:
    """The graph's one output: float32. Its shape is seen when it runs."""
    if len(graph.output) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise MemberError(name, f"expected one output, found {len(graph.output)}: {names}")
    value = graph.output[0]
    if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        found = _type(value.type.tensor_type.elem_type)
        raise MemberError(name, f"expected a float32 output, found {found} in '{value.name}'")
    return str(value.name)


def _type(number: int) -> str:
    """Name of an element type."""
    names: list[str] = [key for key, value in onnx.TensorProto.DataType.items() if value == number]
    return names[0] if names else f"type {number}"


def _dimensions(value: Any) -> list[int | str]:
    """Axes of a value: a number where fixed, a name or '?' where open."""
    return [
        int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or "?") for d in value.type.tensor_type.shape.dim
    ]


def _shown(dimensions: list[int | str]) -> str:
    """Axes as a message shows them."""
    return f"({', '.join(map(str, dimensions))})"


def _start_of(error: Exception) -> str:
    """The start of a C++ error's text."""
    text = one_line(error)
    return text if len(text) < 200 else text[:197] + "..."
