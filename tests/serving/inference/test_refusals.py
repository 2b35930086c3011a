"""What the protocol's clients are refused, with the codes and the words of `ledgate.v1`."""

import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from detector.detector import Detector
from protos.inference import inference_pb2 as pb
from tests.serving.conftest import SHAPE, GatedDetector, Served, Submissions, picture, request
from tests.serving.inference.test_service import infer_request, stub_of, typed
from tests.serving.test_refusals import ROWS, tensor

Serve = Callable[..., Served]
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NAMES = {0: "", 1: "UINT8", 2: "FP32"}


def changed(change: Callable[[Any], Any], *pictures: int, **fields: Any) -> pb.ModelInferRequest:
    """A good request with one fault."""
    bad = infer_request(*(pictures or (1,)), **fields)
    change(bad)
    return bad


def add_input(bad: Any) -> None:
    bad.inputs.add(name="images", datatype="FP32", shape=[1, *SHAPE])
    bad.raw_input_contents.append(picture(2).tobytes())


def share(bad: Any) -> None:
    bad.inputs[0].parameters["shared_memory_region"].string_param = "region"


def classify(bad: Any) -> None:
    bad.outputs.add(name="probabilities").parameters["classification"].int64_param = 3


def follow(bad: Any) -> None:
    bad.parameters["sequence_id"].int64_param = 7


def large(images: Any) -> Any:
    request = typed((images * 255).astype(np.uint8), "UINT8")
    request.inputs[0].contents.uint_contents[7] = 256
    return request


def mistyped(images: Any) -> Any:
    request = typed(images, "FP32")
    request.inputs[0].datatype = "UINT8"
    return request


ONE = picture(1)[None]
OWN_ROWS = {
    "no input": (pb.ModelInferRequest(), INVALID, "inputs: expected one tensor, 'images', found 0"),
    "two inputs": (changed(add_input), INVALID, "inputs: expected one tensor, 'images', found 2"),
    "another name": (
        changed(lambda bad: setattr(bad.inputs[0], "name", "x" * 200)),
        INVALID,
        f"inputs[0].name: expected 'images', found '{'x' * 100}...'",
    ),
    "another type": (
        changed(lambda bad: setattr(bad.inputs[0], "datatype", "FP16")),
        INVALID,
        "inputs[0].datatype: expected UINT8 or FP32, found 'FP16'",
    ),
    "nothing in it": (
        changed(lambda bad: bad.ClearField("raw_input_contents")),
        INVALID,
        "inputs[0]: expected raw_input_contents or contents, found neither",
    ),
    "raw twice": (
        changed(lambda bad: bad.raw_input_contents.append(b"")),
        INVALID,
        "raw_input_contents: expected one, and nothing else, found 2",
    ),
    "raw and typed": (
        changed(lambda bad: bad.inputs[0].contents.fp32_contents.append(0.5)),
        INVALID,
        "raw_input_contents: expected one, and nothing else, found 1 and inputs[0].contents",
    ),
    "numbers over 255": (large(ONE), INVALID, "inputs[0].contents.uint_contents: expected 0 to 255, found 256"),
    "numbers in the field of another type": (
        mistyped(ONE),
        INVALID,
        "inputs[0].contents: expected 64 bytes for (1, 1, 8, 8) of uint8, found 0",
    ),
    "a long id before numbers that are none": (
        changed(lambda bad: bad.ClearField("raw_input_contents"), id="z" * 257),
        INVALID,
        "id: expected at most 256 characters, found 257",
    ),
    "shared memory": (
        changed(share),
        INVALID,
        "inputs[0].parameters: expected none that asks for shared_memory_region, found one",
    ),
    "a place in a sequence": (
        changed(follow),
        INVALID,
        "parameters: expected none that asks for sequence_id, found one",
    ),
    "a ranking": (changed(classify), INVALID, "outputs[0].parameters: expected none that asks for classification"),
    "an unknown output": (
        changed(lambda bad: None, outputs=("label", "logits")),
        INVALID,
        "outputs[1].name: expected label or probabilities or adversarial or log_diversity or score or p_value, "
        "found 'logits'",
    ),
    "a flag without a calibration": (
        infer_request(1, outputs=("adversarial",), model_name="twins"),
        INVALID,
        "outputs[0].name: expected label or probabilities or log_diversity or score, found 'adversarial'",
    ),
    "the members": (
        infer_request(1, outputs=("member_probabilities",)),
        grpc.StatusCode.PERMISSION_DENIED,
        "outputs[0].name: expected another output, found 'member_probabilities'; this server was started without "
        "--allow-members",
    ),
    "unknown model": (
        infer_request(1, model_name="nope"),
        grpc.StatusCode.NOT_FOUND,
        "model: expected tiny or twins, found 'nope'",
    ),
    "unknown version": (
        infer_request(1, model_version="2"),
        grpc.StatusCode.NOT_FOUND,
        "model_version: expected '1' or none, found '2'",
    ),
}


@pytest.fixture
def served(serve: Serve, tiny: Detector, twins: Detector) -> Served:
    return serve(tiny, twins, max_images=6, max_message_bytes=50_000)


@pytest.mark.parametrize(("bad", "code", "text"), OWN_ROWS.values(), ids=OWN_ROWS.keys())
def test_a_row_of_its_own(served: Served, bad: pb.ModelInferRequest, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError, match=re.escape(text)) as caught:
        stub_of(served).ModelInfer(bad)
    assert caught.value.code() is code


# Those of `ledgate.v1` that can be said in this protocol.
SAME = {
    name: bad
    for name, (bad, _, _) in ROWS.items()
    if bad.HasField("tensor") and bad.tensor.dtype in (1, 2) and name != "the members"
}


@pytest.mark.parametrize("bad", SAME.values(), ids=SAME.keys())
def test_a_row_of_both(served: Served, bad: Any) -> None:
    same = pb.ModelInferRequest(model_name=bad.model, id=bad.request_id, raw_input_contents=[bad.tensor.data])
    same.inputs.add(name="images", datatype=NAMES[bad.tensor.dtype], shape=bad.tensor.shape)
    found = []
    for call, message in ((served.stub.Classify, bad), (stub_of(served).ModelInfer, same)):
        with pytest.raises(grpc.RpcError) as caught:
            call(message)
        found.append((caught.value.code(), caught.value.details()))
    (code, ours), (same_code, theirs) = found
    assert code is same_code
    assert named_here(str(ours)) == theirs


def named_here(text: str) -> str:
    """The same words of this protocol's fields."""
    text = re.sub(r"^tensor\.shape:", "inputs[0].shape:", text)
    text = re.sub(r"^tensor\.data:", "raw_input_contents[0]:", text)
    text = re.sub(r"^tensor\.data\[", "images[", text)
    return re.sub(r"^request_id:", "id:", text)


def test_without_their_fault_they_are_answered(served: Served) -> None:
    stub = stub_of(served)
    for good in (infer_request(1), typed(ONE, "FP32"), infer_request(1, outputs=("label",), model_version="1")):
        assert len(stub.ModelInfer(good).outputs) >= 1
    assert len(SAME) > 15


def test_parameters_of_extensions_that_change_no_answer_are_ignored(served: Served) -> None:
    stub = stub_of(served)
    assert not stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
    hurried = infer_request(1)
    hurried.parameters["timeout"].int64_param = 1
    hurried.parameters["priority"].int64_param = 1
    hurried.parameters["anything"].string_param = "else"
    hurried.inputs[0].parameters["content_type"].string_param = "np"
    assert stub.ModelInfer(hurried).outputs == stub.ModelInfer(infer_request(1)).outputs


def test_a_full_queue_refuses_at_once(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, max_queue=1)
    running = served.stub.Classify.future(request(0))
    gated.wait_for_run()
    waiting = stub_of(served).ModelInfer.future(infer_request(1))
    submissions.wait(2)
    found = []
    for call, message in ((served.stub.Classify, tensor()), (stub_of(served).ModelInfer, infer_request(1))):
        with pytest.raises(grpc.RpcError, match="queue: expected room for 1 images") as caught:
            call(message)
        found.append((caught.value.code(), caught.value.details()))
    assert found[0] == found[1]
    assert found[0][0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    gated.release()
    assert running.code() is waiting.code() is grpc.StatusCode.OK


def test_a_failing_model_is_internal_without_details(
    serve: Serve, gated: GatedDetector, caplog: pytest.LogCaptureFixture
) -> None:
    gated.breaks_on = {1}
    gated.release()
    with pytest.raises(grpc.RpcError) as caught:
        stub_of(serve(gated)).ModelInfer(infer_request(1, id="call 9"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error; the server's log says more"
    assert "request 'call 9'" in caplog.text
