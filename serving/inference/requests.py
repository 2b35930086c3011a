"""A request of the protocol as one of our own, which the model then reads and refuses like any other."""

from typing import Final

import numpy as np

from detector.errors import InputError, PermissionDenied
from protos.inference import inference_pb2
from protos.ledgate.v1 import classifier_pb2
from serving.requestid import check_request_id

INPUT: Final = "images"
DATATYPE: Final = "FP32"
MEMBERS: Final = "member_probabilities"

_DTYPES: Final = {"UINT8": classifier_pb2.DataType.UINT8, "FP32": classifier_pb2.DataType.FLOAT32}
# Parameters by which extensions of other servers change what is answered: to leave these aside in silence would be
# another answer than was asked for. The protocol itself defines no parameters, and a server's metadata say which
# extensions it has; ours name none. So all others, such as `timeout` and `priority`, mean nothing here and are ignored.
_REFUSED: Final = ("classification", "shared_memory_region", "sequence_id")
_MAX_SHOWN: Final = 100


def classify_request(
    request: inference_pb2.ModelInferRequest, *, allow_members: bool
) -> classifier_pb2.ClassifyRequest:
    """The same request for `ledgate.v1.Classifier`.

    Raises:
        InputError: Other inputs than one tensor of images, a way to send them that we do not have, or a long id.
        PermissionDenied: It asks for the members' probabilities, and they are not allowed.
    """
    check_request_id(request.id, "id")
    if len(request.inputs) != 1:
        raise InputError(f"inputs: expected one tensor, '{INPUT}', found {len(request.inputs)}")
    tensor = request.inputs[0]
    if tensor.name != INPUT:
        raise InputError(f"inputs[0].name: expected '{INPUT}', found {shown(tensor.name)}")
    if tensor.datatype not in _DTYPES:
        raise InputError(f"inputs[0].datatype: expected {' or '.join(_DTYPES)}, found {shown(tensor.datatype)}")
    refuse_parameters(tensor.parameters, "inputs[0].parameters")
    refuse_parameters(request.parameters, "parameters")
    members = next((number for number, output in enumerate(request.outputs) if output.name == MEMBERS), None)
    if members is not None and not allow_members:
        raise PermissionDenied(
            f"outputs[{members}].name: expected another output, found '{MEMBERS}'; this server was started without "
            "--allow-members"
        )
    return classifier_pb2.ClassifyRequest(
        model=request.model_name,
        tensor=classifier_pb2.Tensor(dtype=_DTYPES[tensor.datatype], shape=tensor.shape, data=_data(request, tensor)),
        request_id=request.id,
        return_member_probabilities=members is not None,
    )


def renamed(refusal: str, request: inference_pb2.ModelInferRequest) -> str:
    """What is said of a request of our own, with the names that the fields have in this one."""
    content = "raw_input_contents[0]" if request.raw_input_contents else "inputs[0].contents"
    names = {"tensor.shape:": "inputs[0].shape:", "tensor.data:": f"{content}:", "tensor.data[": f"{INPUT}["}
    for ours, name in names.items():
        if refusal.startswith(ours):
            return f"{name}{refusal.removeprefix(ours)}"
    return refusal


def refuse_parameters(parameters: object, where: str) -> None:
    """Raises InputError for parameters that ask for what we do not have."""
    for name in _REFUSED:
        if name in parameters:  # type: ignore[operator]  # a map of protobuf's
            raise InputError(f"{where}: expected none that asks for {name}, found one")


def shown(text: str) -> str:
    """A caller's text for a message, quoted and cut."""
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")


def _data(request: inference_pb2.ModelInferRequest, tensor: inference_pb2.ModelInferRequest.InferInputTensor) -> bytes:
    """The numbers as little-endian bytes, whichever way they were sent."""
    typed = tensor.HasField("contents")
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or typed:
            found = f"{len(request.raw_input_contents)}{' and inputs[0].contents' if typed else ''}"
            raise InputError(f"raw_input_contents: expected one, and nothing else, found {found}")
        return request.raw_input_contents[0]
    if not typed:
        raise InputError("inputs[0]: expected raw_input_contents or contents, found neither")
    if tensor.datatype == "FP32":
        return np.array(tensor.contents.fp32_contents, "<f4").tobytes()
    numbers = np.array(tensor.contents.uint_contents, np.uint32)
    if (numbers > np.iinfo(np.uint8).max).any():
        raise InputError(f"inputs[0].contents.uint_contents: expected 0 to 255, found {numbers.max()}")
    return numbers.astype(np.uint8).tobytes()
