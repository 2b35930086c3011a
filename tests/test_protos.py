"""The wire format is a promise: no field is renumbered, retyped or reused. The code is found as `protos`."""

import importlib.util

import pytest
from google.protobuf.descriptor import FieldDescriptor

import ledgate
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
