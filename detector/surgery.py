"""Small operations on other people's graphs, so that they fit: [0, 1] images in, logits out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detector.errors import InputError, MemberError, SettingError
from detector.member import Member, graphs

INPUT: Final = "images"
OUTPUT: Final = "logits"

_PREFIX: Final = "member/"
_WEIGHTS_APART: Final = 4  # the first format whose weights need not be inputs too

# What may stand between a softmax and the output without changing a number.
_RESHAPES: Final = frozenset({"Identity", "Flatten", "Reshape", "Squeeze"})
_SQUASHES: Final = frozenset({"Exp", "HardSigmoid", "Hardmax", "Sigmoid"})


def with_names(member: Member) -> Member:
    """The member with its input called `images` and its output `logits`."""
    if (member.input, member.output) == (INPUT, OUTPUT):
        return member
    return _wrap(member, [helper.make_node("Identity", [INPUT], [_PREFIX + member.input])], [])


def with_normalisation(member: Member, mean: Sequence[float], std: Sequence[float]) -> Member:
    """The member with (image - mean) / std before it, so that it takes images in [0, 1].

    Args:
        member: One that expects normalised images.
        mean: One number for each channel, or one for all, in units of [0, 1].
        std: Likewise, positive.

    Raises:
        InputError: Numbers that do not fit the channels.
    """
    channels = member.shape[0]
    weights = [
        numpy_helper.from_array(_per_channel("--mean", mean, channels), "mean"),
        numpy_helper.from_array(_per_channel("--std", std, channels), "std"),
    ]
    if max(mean) > 1:
        raise SettingError(
            f"--mean: expected numbers in units of [0, 1], found {list(mean)}; divide mean and std by 255"
        )
    if not all(value > 0 for value in std):
        raise SettingError(f"--std: expected positive numbers, found {list(std)}")
    nodes = [
        helper.make_node("Sub", [INPUT, "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], [_PREFIX + member.input]),
    ]
    return _wrap(member, nodes, weights)


def _per_channel(name: str, values: Sequence[float], channels: int) -> Any:
    """Numbers as a (1, C, 1, 1) float32 array."""
    if len(values) not in (1, channels):
        expected = "1 number" if channels == 1 else f"1 or {channels} numbers"
        raise InputError(f"{name}: expected {expected}, found {len(values)}")
    with np.errstate(over="ignore"):
        array = np.array(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise SettingError(f"{name}: expected finite numbers, found {list(values)}")
    return np.broadcast_to(array, (channels,)).reshape(1, channels, 1, 1)


def _wrap(member: Member, before: list[Any], weights: list[Any]) -> Member:
    """The member behind some nodes that make its input from `images`; its output is `logits`."""
    model = _prefixed(member.model)
    graph = model.graph
    nodes = [*before, *graph.node, helper.make_node("Identity", [_PREFIX + member.output], [OUTPUT])]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    for value in graph.input:
        if value.name == _PREFIX + member.input:
            value.name = INPUT
    graph.output[0].name = OUTPUT
    model.ir_version = max(model.ir_version, _WEIGHTS_APART)
    return replace(member, model=model, input=INPUT, output=OUTPUT)


def _prefixed(model: Any) -> Any:
    """A copy whose values all have a prefix, so that none is called like one of ours.

    `onnx.compose.add_prefix` would do, but it loses what inner graphs take from outer ones.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in graphs(copy.graph):
        for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
            value.name = _PREFIX + value.name
        for node in graph.node:
            node.input[:] = [name and _PREFIX + name for name in node.input]  # an empty one is left out
            node.output[:] = [name and _PREFIX + name for name in node.output]
    return copy


def without_softmax(member: Member) -> Member | None:
    """The member with a trailing softmax taken out, or None where there is none.

    The softmax becomes an Identity, so that reshapes behind it stay. That what is left are the
    logits of the same prediction is for the caller to see by running both.

    Raises:
        MemberError: The softmax feeds other nodes too, so that it cannot be taken out.
    """
    model = onnx.ModelProto()
    model.CopyFrom(member.model)
    node, values = _last(member, model.graph)
    if node is None or node.op_type != "Softmax":
        return None
    for value in values:
        _refuse_fork(member, model.graph, value)
    identity = helper.make_node("Identity", node.input, node.output, name=node.name)
    node.CopyFrom(identity)
    return replace(member, model=model)


def refuse_squashed(member: Member) -> None:
    """Raises MemberError where the last operator makes probabilities, class by class.

    Their rows do not sum to one, so that `detector.trial.refuse_probabilities` would not see it.
    """
    node, _ = _last(member, member.model.graph)
    if node is not None and node.op_type in _SQUASHES:
        raise MemberError(
            member.name,
            f"expected logits, found the final operator '{node.op_type}'; small probabilities have underflowed, "
            "so export what goes into it",
        )


def _last(member: Member, graph: Any) -> tuple[Any, list[str]]:
    """The last node that changes numbers, or None, and the values from there to the output."""
    maker = {output: node for node in graph.node for output in node.output}
    values = [member.output]
    while (node := maker.get(values[-1])) is not None and node.op_type in _RESHAPES:
        values.append(node.input[0])
    return node, values


def _refuse_fork(member: Member, graph: Any, value: str) -> None:
    """A value on the way to the output must go nowhere else."""
    uses = sum(value in node.input for node in graph.node) + sum(value == output.name for output in graph.output)
    if uses != 1:
        raise MemberError(member.name, f"expected the final softmax to feed the output only, found {uses} uses")
