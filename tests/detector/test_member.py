"""Members read as hostile: what is refused, that the message says why, and that nothing else ever comes out."""

import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from detector.errors import MemberError
from detector.member import parse_member, read_member
from detector.trial import run_member
from tests.conftest import CLASSES, SHAPE, make_model

PETA = 10**15


def constant(name: str, value: ArrayLike) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def with_tail(*nodes: Any, constants: dict[str, ArrayLike] | None = None, **options: Any) -> Any:
    """A linear model whose last nodes, from 'scores' to 'logits', are these."""
    model = make_model(tail=list(nodes), **options)
    model.graph.initializer.extend(constant(name, value) for name, value in (constants or {}).items())
    return model


def adding(*nodes: Any, constants: dict[str, ArrayLike] | None = None) -> Any:
    """A linear model that adds the sum of 'extra', which the nodes make."""
    return with_tail(
        *nodes,
        helper.make_node("ReduceSum", ["extra"], ["sum"], keepdims=0),
        helper.make_node("Add", ["scores", "sum"], ["logits"]),
        constants=constants,
    )


def branching(*nodes: Any, constants: dict[str, ArrayLike] | None = None) -> Any:
    """A linear model with an If, whose first branch goes through the nodes from 'scores' to 'then'."""
    weights = [constant(name, value) for name, value in (constants or {}).items()]
    then = helper.make_tensor_value_info("then", TensorProto.FLOAT, None)
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, None)
    return with_tail(
        helper.make_node(
            "If",
            ["condition"],
            ["logits"],
            then_branch=helper.make_graph(list(nodes), "then", [], [then], weights),
            else_branch=helper.make_graph([helper.make_node("Identity", ["scores"], ["other"])], "else", [], [other]),
        ),
        constants={"condition": np.array(True)},
    )


def external(tensor: Any) -> Any:
    """The tensor, its numbers in another file."""
    moved = TensorProto()
    moved.CopyFrom(tensor)
    moved.ClearField("raw_data")
    moved.data_location = TensorProto.EXTERNAL
    moved.external_data.add(key="location", value="../../etc/passwd")
    return moved


def sparse(size: int) -> Any:
    values = helper.make_tensor("extra", TensorProto.FLOAT, [1], [1.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("where", TensorProto.INT64, [1], [0]), [size])


def looping(kind: str) -> Any:
    """A body that hands its state on."""
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("before", "after")]
    step = helper.make_node("Identity", ["before"], ["after"])
    if kind == "Scan":
        body = helper.make_graph([step], "body", [state[0]], [state[1]])
        return with_tail(helper.make_node("Scan", ["scores"], ["logits"], body=body, num_scan_inputs=1))
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    going = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("going", "on")]
    go = helper.make_node("Identity", ["going"], ["on"])
    body = helper.make_graph([go, step], "body", [turn, going[0], state[0]], [going[1], state[1]])
    return with_tail(helper.make_node("Loop", ["", "", "scores"], ["logits"], body=body))


def foreign(domain: str) -> Any:
    return helper.make_node("FusedGelu", ["scores"], ["then"], domain=domain)


def in_function() -> Any:
    """A function of the file's own, and an operator of a custom library in it."""
    model = with_tail(helper.make_node("Mine", ["scores"], ["logits"], domain="local"))
    body = [helper.make_node("Open", ["x"], ["y"], domain="evil")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    model.functions.append(helper.make_function("local", "Mine", ["x"], ["y"], body, opsets))
    model.opset_import.extend([helper.make_opsetid("local", 1), helper.make_opsetid("evil", 1)])
    return model


def external_weights() -> Any:
    model = make_model()
    model.graph.initializer[0].CopyFrom(external(model.graph.initializer[0]))
    return model


def external_sparse() -> Any:
    model = adding(helper.make_node("Identity", ["outside"], ["extra"]))
    tensor = sparse(10)
    tensor.values.CopyFrom(external(constant("outside", np.float32(1))))
    model.graph.sparse_initializer.append(tensor)
    return model


def sparse_weights(size: int) -> Any:
    model = with_tail(helper.make_node("Add", ["scores", "extra"], ["logits"]))
    model.graph.sparse_initializer.append(sparse(size))
    return model


def external_constant() -> Any:
    return helper.make_node("Constant", [], ["extra"], value=external(constant("value", np.float32(1))))


def external_in_branch() -> Any:
    model = branching(helper.make_node("Add", ["scores", "one"], ["then"]), constants={"one": np.float32(1)})
    branches = {attribute.name: attribute.g for attribute in model.graph.node[-1].attribute}
    tensor = branches["then_branch"].initializer[0]
    tensor.CopyFrom(external(tensor))
    return model


def two_inputs() -> Any:
    model = with_tail(helper.make_node("Add", ["scores", "more"], ["logits"]))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", CLASSES]))
    return model


def two_outputs() -> Any:
    model = with_tail(helper.make_node("Identity", ["scores"], ["logits"]))
    model.graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES]))
    return model


def cast_input(kind: int) -> Any:
    """Takes images of another type, and casts them itself."""
    model = make_model(dtype=kind)
    model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    return model


def cast_output(kind: int) -> Any:
    model = with_tail(helper.make_node("Cast", ["scores"], ["logits"], to=kind))
    model.graph.output[0].type.tensor_type.elem_type = kind
    return model


def of_unknown_type() -> Any:
    model = make_model()
    model.graph.input[0].type.tensor_type.elem_type = 999
    return model


def many_nodes() -> Any:
    model = make_model()
    node = helper.make_node("Identity", ["flat"], [""])
    model.graph.node.extend([node] * 100_001)
    return model


RANDOM = {
    "RandomNormal": helper.make_node("RandomNormal", [], ["extra"], shape=[2]),
    "RandomUniform": helper.make_node("RandomUniform", [], ["extra"], shape=[2]),
    "RandomNormalLike": helper.make_node("RandomNormalLike", ["scores"], ["extra"]),
    "RandomUniformLike": helper.make_node("RandomUniformLike", ["scores"], ["extra"]),
    "Bernoulli": helper.make_node("Bernoulli", ["scores"], ["extra"]),
    "Multinomial": helper.make_node("Multinomial", ["scores"], ["extra"], dtype=TensorProto.INT32),
}

HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "custom domain": (
        lambda: with_tail(helper.make_node("FusedGelu", ["scores"], ["logits"], domain="com.microsoft")),
        r"standard ONNX operators only, found 'com.microsoft.FusedGelu'",
    ),
    "custom domain in a branch": (lambda: branching(foreign("evil")), r"operators only, found 'evil.FusedGelu'"),
    "custom domain in a branch of a branch": (
        lambda: branching(*branching(foreign("evil")).graph.node[2:], constants={"condition": np.array(True)}),
        r"operators only, found 'evil.FusedGelu'",
    ),
    "custom domain in a function": (in_function, r"expected one graph, found the function 'local.Mine'"),
    "external weights": (external_weights, r"inside the file, found external data for 'weights'"),
    "external weights in a constant": (lambda: adding(external_constant()), r"found external data for 'value'"),
    "external weights in a branch": (external_in_branch, r"found external data for 'one'"),
    "external constant in a branch": (
        lambda: branching(external_constant(), helper.make_node("Add", ["scores", "extra"], ["then"])),
        r"found external data for 'value'",
    ),
    "external sparse weights": (external_sparse, r"expected dense weights, found sparse ones"),
    "sparse weights": (lambda: sparse_weights(10), r"expected dense weights, found sparse ones"),
    "sparse weights of a petabyte": (lambda: sparse_weights(PETA), r"expected dense weights, found sparse ones"),
    "a sparse constant": (
        lambda: adding(helper.make_node("Constant", [], ["extra"], sparse_value=sparse(PETA))),
        r"expected dense weights, found sparse ones",
    ),
    "a loop": (lambda: looping("Loop"), r"expected a graph without loops, found 'Loop'"),
    "a scan": (lambda: looping("Scan"), r"expected a graph without loops, found 'Scan'"),
    "a loop in a branch": (
        lambda: branching(*looping("Loop").graph.node[2:], helper.make_node("Identity", ["logits"], ["then"])),
        r"expected a graph without loops, found 'Loop'",
    ),
    **{
        f"dice: {name}": (partial(adding, node), rf"the same answer each time, found .* '{name}'")
        for name, node in RANDOM.items()
    },
    "dice in a branch": (
        lambda: branching(RANDOM["RandomNormalLike"], helper.make_node("Identity", ["extra"], ["then"])),
        r"found the random operator 'RandomNormalLike'",
    ),
    "too many nodes": (many_nodes, r"expected at most 100000 nodes, found more"),
    "two inputs": (two_inputs, r"expected one input, found 2: images, more"),
    "two outputs": (two_outputs, r"expected one output, found 2: logits, scores"),
    "flat input": (lambda: make_model(shape=(64,)), r"expected an input \(N, C, H, W\), found \(batch, 64\)"),
    "five axes": (lambda: make_model(shape=(1, 1, 8, 8)), r"expected an input \(N, C, H, W\), found .*1, 1, 8, 8"),
    "float16 input": (lambda: cast_input(TensorProto.FLOAT16), r"expected a float32 input, found FLOAT16"),
    "uint8 input": (lambda: cast_input(TensorProto.UINT8), r"expected a float32 input, found UINT8 in 'images'"),
    "input of no known type": (of_unknown_type, r"type"),
    "float16 output": (lambda: cast_output(TensorProto.FLOAT16), r"expected a float32 output, found FLOAT16"),
    "double output": (lambda: cast_output(TensorProto.DOUBLE), r"expected a float32 output, found DOUBLE"),
    "fixed batch": (lambda: make_model(batch=4), r"expected an open batch axis, found it fixed to 4 in 'images'"),
    "open height and width": (
        lambda: make_model(shape=(1, "h", "w"), weights=np.zeros((64, CLASSES), dtype=np.float32)),
        r"expected fixed C, H, W, found \(batch, 1, h, w\)",
    ),
    "no channel": (
        lambda: make_model(shape=(0, 8, 8), weights=np.zeros((0, CLASSES), dtype=np.float32)),
        r"expected fixed C, H, W, found \(batch, 0, 8, 8\)",
    ),
    "less than no channel": (
        lambda: make_model(shape=(-1, 8, 8), weights=np.zeros((64, CLASSES), dtype=np.float32)),
        r"expected fixed C, H, W, found \(batch, -1, 8, 8\)",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused(case: str) -> None:
    make, reason = HOSTILE[case]
    with pytest.raises(MemberError, match=reason) as caught:
        parse_member(make().SerializeToString(), "m.onnx")
    assert caught.value.member == "m.onnx"
    assert str(caught.value) == f"member m.onnx: {caught.value.reason}"
    assert "\n" not in str(caught.value)


def stale() -> Any:
    """Claims that the giant is small."""
    model = GIANTS["ConstantOfShape"]()
    model.graph.value_info.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    return model


def giant_input() -> Any:
    """And nothing large behind it."""
    model = make_model(shape=(3, 10**7, 10**7), weights=np.zeros((3, CLASSES), dtype=np.float32))
    model.graph.node.insert(0, helper.make_node("GlobalMaxPool", ["images"], ["most"]))
    model.graph.node[1].input[0] = "most"
    return model


ONE = np.ones((1, 1), dtype=np.float32)

# What a few bytes can ask for.
GIANTS: dict[str, Callable[[], Any]] = {
    "ConstantOfShape": lambda: adding(
        helper.make_node("ConstantOfShape", ["size"], ["extra"]), constants={"size": [PETA]}
    ),
    "ConstantOfShape in a branch": lambda: branching(
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["scores", "sum"], ["then"]),
        constants={"size": [PETA]},
    ),
    "with a claim that it is small": stale,
    "Expand": lambda: adding(
        helper.make_node("Expand", ["one", "size"], ["extra"]), constants={"one": ONE, "size": [10**6, 10**9]}
    ),
    "Tile": lambda: adding(
        helper.make_node("Tile", ["one", "times"], ["extra"]), constants={"one": ONE, "times": [10**6, 10**9]}
    ),
    "Range": lambda: adding(
        helper.make_node("Range", ["from", "to", "by"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["extra"], to=TensorProto.FLOAT),
        constants={"from": np.int64(0), "to": np.int64(PETA), "by": np.int64(1)},
    ),
    "Pad": lambda: adding(
        helper.make_node("Pad", ["one", "by"], ["extra"]), constants={"one": ONE, "by": [0, 0, 10**6, 10**9]}
    ),
    "Resize": lambda: adding(
        helper.make_node("Resize", ["images", "", "", "size"], ["extra"]), constants={"size": [1, 1, 10**7, 10**8]}
    ),
    "outer product": lambda: adding(
        helper.make_node("ConstantOfShape", ["tall"], ["a"]),
        helper.make_node("ConstantOfShape", ["wide"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["extra"]),
        constants={"tall": [10**8, 1], "wide": [1, 10**8]},
    ),
    "many that are not so large each": lambda: adding(
        *(helper.make_node("ConstantOfShape", ["size"], [f"part {i}"]) for i in range(40)),
        helper.make_node("Concat", [f"part {i}" for i in range(2)], ["extra"], axis=0),
        constants={"size": [1 << 27]},
    ),
    "input": giant_input,
}


@pytest.mark.parametrize("case", GIANTS)
def test_a_giant_is_refused_before_it_is_made(case: str) -> None:
    content = GIANTS[case]().SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    with pytest.raises(MemberError, match=r"expected (tensors up to|up to) \d+ elements"):
        parse_member(content, "m.onnx")
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def from_pixels() -> Any:
    return adding(
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "many"], ["pixels"]),
        helper.make_node("Cast", ["pixels"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["extra"]),
        constants={"many": np.float32(PETA), "one": [1]},
    )


def from_shape() -> Any:
    return adding(
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Mul", ["shape", "many"], ["size"]),
        helper.make_node("Expand", ["one", "size"], ["extra"]),
        constants={"many": [1, PETA, 1, 1], "one": np.float32(1)},
    )


@pytest.mark.parametrize("make", [from_pixels, from_shape])
def test_a_giant_of_a_computed_size_fails_in_the_trial(make: Callable[[], Any]) -> None:
    model = make()
    member = parse_member(model.SerializeToString(), "m.onnx")
    with pytest.raises(MemberError, match=r"expected to run on batches of 1 and 3, found: "):
        run_member(member)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"not an ONNX file", b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(100), bytes(1000)],
    ids=["empty", "one byte", "text", "PNG", "zip", "zeros"],
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(MemberError, match=r"^member m.onnx: expected an ONNX model"):
        parse_member(content, "m.onnx")


def test_truncated_files_are_refused() -> None:
    content = make_model().SerializeToString()
    for length in range(0, len(content), 7):
        with pytest.raises(MemberError):
            parse_member(content[:length], "m.onnx")


def test_damaged_files_give_member_errors_and_nothing_else() -> None:
    """Seeded changes of single bytes: accepted, where they change a weight or a name, or refused."""
    rng = np.random.default_rng(0)
    content = branching(helper.make_node("Identity", ["scores"], ["then"])).SerializeToString()
    refused = 0
    for position in rng.choice(len(content), size=600, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        try:
            parse_member(bytes(damaged), "m.onnx")
        except MemberError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: with_tail(helper.make_node("Reshape", ["scores", "to"], ["logits"]), constants={"to": [0, 2, 5]}),
            r"expected an output \(N, L\), found \(3, 2, 5\) for 3 images",
        ),
        (
            lambda: with_tail(helper.make_node("ReduceSum", ["scores", "last"], ["logits"], keepdims=0),
                              constants={"last": [1]}),
            r"expected an output \(N, L\), found \(3,\) for 3 images",
        ),
        (
            lambda: with_tail(helper.make_node("ReduceSum", ["scores", "first"], ["logits"]),
                              constants={"first": [0]}),
            r"expected an output \(N, L\), found \(1, 10\) for 3 images",
        ),
        (
            lambda: with_tail(helper.make_node("Reshape", ["scores", "to"], ["logits"]), constants={"to": [3, 10]}),
            r"expected to run on batches of 1 and 3, found: ",
        ),
        (
            lambda: with_tail(helper.make_node("Log", ["scores"], ["logits"])),
            r"expected finite logits for images of noise, found NaN or infinity",
        ),
        (
            lambda: with_tail(helper.make_node("Div", ["scores", "zero"], ["logits"]),
                              constants={"zero": np.float32(0)}),
            r"expected finite logits",
        ),
        (
            lambda: with_tail(helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0]),
                              helper.make_node("Sub", ["scores", "mean"], ["logits"])),
            r"expected each image's answer to depend on that image only, found it moved by \d",
        ),
        (
            lambda: with_tail(helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0]),
                              helper.make_node("Sub", ["scores", "mean"], ["centred"]),
                              helper.make_node("Div", ["centred", "centred"], ["one"]),
                              helper.make_node("Mul", ["scores", "one"], ["logits"])),
            r"depend on that image only, found it moved by nan",
        ),
        (
            lambda: with_tail(helper.make_node("Softmax", ["scores"], ["logits"], axis=0)),
            r"depend on that image only",
        ),
        (
            lambda: with_tail(helper.make_node("Dropout", ["scores", "ratio", "training"], ["logits"]),
                              constants={"ratio": np.float32(0.5), "training": np.array(True)}),
            r"depend on that image only",
        ),
    ],
    ids=["rank 3", "rank 1", "batch lost", "one batch size", "NaN", "infinity", "minus batch mean", "NaN when alone",
         "softmax over the batch", "dropout"],
)  # fmt: skip
def test_refused_in_the_trial_run(make: Callable[[], Any], reason: str) -> None:
    member = parse_member(make().SerializeToString(), "m.onnx")
    with pytest.raises(MemberError, match=reason) as caught:
        run_member(member)
    assert caught.value.member == "m.onnx"


def older(version: int) -> Any:
    """An old file: weights are inputs with a default."""
    model = make_model(opset=version)
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [64, CLASSES]))
    return model


def with_unused_domain() -> Any:
    model = make_model()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


@pytest.mark.parametrize(
    "make",
    [
        *(partial(make_model, opset=version) for version in (7, 9, 11, 13, 17, 20, 21, 23)),
        lambda: older(9),
        with_unused_domain,
        lambda: branching(helper.make_node("Identity", ["scores"], ["then"])),
        lambda: make_model(batch=None),
    ],
    ids=["opset 7", "opset 9", "opset 11", "opset 13", "opset 17", "opset 20", "opset 21", "opset 23",
         "weights as inputs", "unused domain", "branch", "nameless batch axis"],
)  # fmt: skip
def test_accepted(make: Callable[[], Any]) -> None:
    member = parse_member(make().SerializeToString(), "m.onnx")
    assert (member.input, member.shape, member.output) == ("images", SHAPE, "logits")
    assert run_member(member).shape == (3, CLASSES)
    # What was checked is what is written, and it is the same when it is read again.
    assert parse_member(member.content, "m.onnx").content == member.content


def test_reading_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    with pytest.raises(MemberError, match=rf"^member {file}: expected a file, found none$"):
        read_member(file)
    file.mkdir()
    with pytest.raises(MemberError, match=rf"^member {file}: expected a file, found a folder$"):
        read_member(file)
    file.rmdir()
    file.write_bytes(b"text")
    with pytest.raises(MemberError, match=rf"^member {file}: expected an ONNX model"):
        read_member(file)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    with file.open("wb") as hole:
        hole.truncate((1 << 30) + 1)
    with pytest.raises(MemberError, match=r"expected at most 1073741824 bytes, found 1073741825"):
        read_member(file)


def test_the_twin_of_the_members(members: list[bytes]) -> None:
    """The members of these tests are linear: a matrix product gives the same."""
    images = np.random.default_rng(0).random((3, *SHAPE), dtype=np.float32)
    model = onnx.load_model_from_string(members[1])
    weights = numpy_helper.to_array(model.graph.initializer[0])
    expected = images.reshape(3, -1) @ weights
    np.testing.assert_allclose(run_member(parse_member(members[1], "m")), expected, rtol=1e-4, atol=1e-5)
