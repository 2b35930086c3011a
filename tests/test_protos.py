"""The wire format is a promise: no field is renumbered, retyped or reused. The code is found as `protos`.

That of `ledgate.v1` is ours. That of `inference` is the Open Inference Protocol's, and other clients hold it.
"""

import importlib.util
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

import ledgate
from protos.inference import inference_pb2
from protos.ledgate.v1 import classifier_pb2, classifier_pb2_grpc

# message -> {field: (number, type)}. Lines are added here, never changed: old clients hold the old numbers.
FROZEN = {
    "Tensor": {"dtype": (1, "DataType"), "shape": (2, "repeated int64"), "data": (3, "bytes")},
    "EncodedImages": {"images": (1, "repeated bytes")},
    "ClassifyRequest": {
        "model": (1, "string"),
        "tensor": (2, "oneof input Tensor"),
        "encoded": (3, "oneof input EncodedImages"),
        "request_id": (4, "string"),
        "return_member_probabilities": (5, "bool"),
    },
    "Result": {
        "class_index": (1, "uint32"),
        "label": (2, "string"),
        "probabilities": (3, "repeated double"),
        "recalibrated_probabilities": (4, "repeated double"),
        "log_diversity": (5, "optional double"),
        "score": (6, "optional double"),
        "p_value": (7, "optional double"),
        "adversarial": (8, "optional bool"),
        "member_probabilities": (9, "repeated double"),
    },
    "ExecutionPath": {"provider": (1, "string"), "dtype": (2, "string"), "tf32": (3, "bool")},
    "ClassifyResponse": {
        "results": (1, "repeated Result"),
        "model": (2, "string"),
        "bundle_digest": (3, "string"),
        "calibration_digest": (4, "string"),
        "score_name": (5, "string"),
        "threshold": (6, "optional double"),
        "execution_path": (7, "ExecutionPath"),
        "request_id": (8, "string"),
        "thresholds": (9, "repeated double"),
    },
    "ClassifyStreamResponse": {
        "response": (1, "oneof outcome ClassifyResponse"),
        "status": (2, "oneof outcome Status"),
        "request_id": (3, "string"),
    },
    "GetModelRequest": {"model": (1, "string")},
    "Model": {
        "name": (1, "string"),
        "bundle_digest": (2, "string"),
        "calibration_digest": (3, "string"),
        "members": (4, "uint32"),
        "labels": (5, "repeated string"),
        "input": (6, "Input"),
        "calibration": (7, "Calibration"),
        "execution_path": (8, "ExecutionPath"),
        "limits": (9, "Limits"),
        "available": (10, "repeated string"),
    },
    "Input": {
        "shape": (1, "repeated uint32"),
        "dtypes": (2, "repeated DataType"),
        "low": (3, "float"),
        "high": (4, "float"),
        "resizes": (5, "bool"),
        "greys_to_rgb": (6, "bool"),
    },
    "Calibration": {
        "score_name": (1, "string"),
        "threshold": (2, "optional double"),
        "thresholds": (3, "repeated double"),
        "target": (4, "string"),
        "clean_count": (5, "uint64"),
    },
    "Limits": {"max_images": (1, "uint32"), "max_message_bytes": (2, "uint64"), "max_pixels": (3, "uint64")},
}

PARAMETERS = {"key": (1, "string"), "value": (2, "InferParameter")}
TENSOR = {
    "name": (1, "string"),
    "datatype": (2, "string"),
    "shape": (3, "repeated int64"),
    "parameters": (4, "repeated ParametersEntry"),
    "contents": (5, "InferTensorContents"),
}

# The same for the package `inference`; a message within another is named after both.
PROTOCOL = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "repeated string")},
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "repeated string"),
        "platform": (3, "string"),
        "inputs": (4, "repeated TensorMetadata"),
        "outputs": (5, "repeated TensorMetadata"),
    },
    "ModelMetadataResponse.TensorMetadata": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "repeated int64"),
    },
    "InferParameter": {
        "bool_param": (1, "oneof parameter_choice bool"),
        "int64_param": (2, "oneof parameter_choice int64"),
        "string_param": (3, "oneof parameter_choice string"),
        "double_param": (4, "oneof parameter_choice double"),
        "uint64_param": (5, "oneof parameter_choice uint64"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "repeated bool"),
        "int_contents": (2, "repeated int32"),
        "int64_contents": (3, "repeated int64"),
        "uint_contents": (4, "repeated uint32"),
        "uint64_contents": (5, "repeated uint64"),
        "fp32_contents": (6, "repeated float"),
        "fp64_contents": (7, "repeated double"),
        "bytes_contents": (8, "repeated bytes"),
    },
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "repeated ParametersEntry"),
        "inputs": (5, "repeated InferInputTensor"),
        "outputs": (6, "repeated InferRequestedOutputTensor"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "ModelInferRequest.InferInputTensor": TENSOR,
    "ModelInferRequest.InferInputTensor.ParametersEntry": PARAMETERS,
    "ModelInferRequest.InferRequestedOutputTensor": {
        "name": (1, "string"),
        "parameters": (2, "repeated ParametersEntry"),
    },
    "ModelInferRequest.InferRequestedOutputTensor.ParametersEntry": PARAMETERS,
    "ModelInferRequest.ParametersEntry": PARAMETERS,
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, "repeated ParametersEntry"),
        "outputs": (5, "repeated InferOutputTensor"),
        "raw_output_contents": (6, "repeated bytes"),
    },
    "ModelInferResponse.InferOutputTensor": TENSOR,
    "ModelInferResponse.InferOutputTensor.ParametersEntry": PARAMETERS,
    "ModelInferResponse.ParametersEntry": PARAMETERS,
    "RepositoryIndexRequest": {"repository_name": (1, "string"), "ready": (2, "bool")},
    "RepositoryIndexResponse": {"models": (1, "repeated ModelIndex")},
    "RepositoryIndexResponse.ModelIndex": {
        "name": (1, "string"),
        "version": (2, "string"),
        "state": (3, "string"),
        "reason": (4, "string"),
    },
}

SCALARS = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def described(field: FieldDescriptor) -> tuple[int, str]:
    """Number and type of a field, as the table writes them."""
    composite = field.message_type or field.enum_type
    name = composite.name if composite else SCALARS[field.type]
    oneof = field.containing_oneof
    if field.is_repeated:
        name = f"repeated {name}"
    elif oneof:  # `optional` is a oneof of one, named with an underscore
        name = f"optional {name}" if oneof.name.startswith("_") else f"oneof {oneof.name} {name}"
    return field.number, name


def messages(descriptors: Mapping[str, Descriptor], prefix: str = "") -> Iterator[tuple[str, Descriptor]]:
    """All messages, those within others after them."""
    for name, descriptor in descriptors.items():
        yield prefix + name, descriptor
        yield from messages(descriptor.nested_types_by_name, f"{prefix}{name}.")


SPOKEN = dict(messages(inference_pb2.DESCRIPTOR.message_types_by_name))


def test_every_message_is_in_the_table() -> None:
    assert set(classifier_pb2.DESCRIPTOR.message_types_by_name) == set(FROZEN)


@pytest.mark.parametrize("message", FROZEN)
def test_fields_keep_their_numbers_and_types(message: str) -> None:
    fields = classifier_pb2.DESCRIPTOR.message_types_by_name[message].fields
    assert {field.name: described(field) for field in fields} == FROZEN[message]


def test_data_types_keep_their_numbers() -> None:
    assert dict(classifier_pb2.DataType.items()) == {"DATA_TYPE_UNSPECIFIED": 0, "UINT8": 1, "FLOAT32": 2}


def test_methods_keep_their_shape() -> None:
    service = classifier_pb2.DESCRIPTOR.services_by_name["Classifier"]
    assert service.full_name == "ledgate.v1.Classifier"
    found = {
        m.name: (m.input_type.name, m.output_type.name, m.client_streaming, m.server_streaming) for m in service.methods
    }
    assert found == {
        "Classify": ("ClassifyRequest", "ClassifyResponse", False, False),
        "ClassifyStream": ("ClassifyRequest", "ClassifyStreamResponse", True, True),
        "GetModel": ("GetModelRequest", "Model", False, False),
    }


def test_generated_code_is_found_as_protos_and_never_in_the_front() -> None:
    assert classifier_pb2_grpc.ClassifierStub.__module__ == "protos.ledgate.v1.classifier_pb2_grpc"
    assert classifier_pb2.DESCRIPTOR.name == "protos/ledgate/v1/classifier.proto"
    assert ledgate.__spec__ is not None
    assert importlib.util.find_spec("ledgate.v1") is None


def test_a_message_survives_the_wire_byte_for_byte() -> None:
    request = classifier_pb2.ClassifyRequest(
        model="m", tensor=classifier_pb2.Tensor(dtype=classifier_pb2.UINT8, shape=[1, 1, 2], data=b"\x00\xff")
    )
    # Written by hand from the numbers above: field << 3 | wire type, then the value.
    assert request.SerializeToString(deterministic=True) == (
        b"\x0a\x01m" + b"\x12\x0b" + b"\x08\x01" + b"\x12\x03\x01\x01\x02" + b"\x1a\x02\x00\xff"
    )


def test_every_message_of_the_protocol_is_in_its_table() -> None:
    assert inference_pb2.DESCRIPTOR.package == "inference"
    assert set(SPOKEN) == set(PROTOCOL)


@pytest.mark.parametrize("message", PROTOCOL)
def test_the_protocols_numbers_and_types_are_kept(message: str) -> None:
    assert {field.name: described(field) for field in SPOKEN[message].fields} == PROTOCOL[message]


def test_the_protocols_methods_are_kept() -> None:
    service = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    names = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    assert [method.name for method in service.methods] == [*names, "RepositoryIndex"]
    for method in service.methods:
        assert method.input_type.full_name == f"inference.{method.name}Request"
        assert method.output_type.full_name == f"inference.{method.name}Response"
        assert not method.client_streaming
        assert not method.server_streaming


# What Triton's own client holds, where its environment is: name, number, type and label of every field we name.
THEIRS = """
import sys
from tritonclient.grpc import service_pb2
from google.protobuf import descriptor_pb2
file = descriptor_pb2.FileDescriptorProto()
service_pb2.DESCRIPTOR.CopyToProto(file)
sys.stdout.buffer.write(file.SerializeToString())
"""
CLIENTS = Path(__file__).resolve().parents[1] / ".venv-clients/bin/python"


@pytest.mark.skipif(not CLIENTS.exists(), reason="expected .venv-clients, found none; scripts/clients makes it")
def test_the_protocol_is_the_one_that_tritons_client_speaks() -> None:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

    def fields(found: list[DescriptorProto], prefix: str = "") -> Iterator[tuple[str, tuple[int, int, int, str]]]:
        for message in found:
            for field in message.field:
                yield f"{prefix}{message.name}.{field.name}", (field.number, field.type, field.label, field.type_name)
            yield from fields(list(message.nested_type), f"{prefix}{message.name}.")

    done = subprocess.run([CLIENTS, "-c", THEIRS], capture_output=True, check=True)
    theirs = dict(fields(list(FileDescriptorProto.FromString(done.stdout).message_type)))
    file = FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(file)
    ours = dict(fields(list(file.message_type)))
    assert {name: theirs.get(name) for name in ours} == ours
