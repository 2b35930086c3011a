from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    UINT8: _ClassVar[DataType]
    FLOAT32: _ClassVar[DataType]
DATA_TYPE_UNSPECIFIED: DataType
UINT8: DataType
FLOAT32: DataType

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class EncodedImages(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, images: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "tensor", "encoded", "request_id", "return_member_probabilities")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RETURN_MEMBER_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    model: str
    tensor: Tensor
    encoded: EncodedImages
    request_id: str
    return_member_probabilities: bool
    def __init__(self, model: _Optional[str] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ..., encoded: _Optional[_Union[EncodedImages, _Mapping]] = ..., request_id: _Optional[str] = ..., return_member_probabilities: bool = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("class_index", "label", "probabilities", "recalibrated_probabilities", "log_diversity", "score", "p_value", "adversarial", "member_probabilities")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    RECALIBRATED_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    LOG_DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    ADVERSARIAL_FIELD_NUMBER: _ClassVar[int]
    MEMBER_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    label: str
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    recalibrated_probabilities: _containers.RepeatedScalarFieldContainer[float]
    log_diversity: float
    score: float
    p_value: float
    adversarial: bool
    member_probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, class_index: _Optional[int] = ..., label: _Optional[str] = ..., probabilities: _Optional[_Iterable[float]] = ..., recalibrated_probabilities: _Optional[_Iterable[float]] = ..., log_diversity: _Optional[float] = ..., score: _Optional[float] = ..., p_value: _Optional[float] = ..., adversarial: bool = ..., member_probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class ExecutionPath(_message.Message):
    __slots__ = ("provider", "dtype", "tf32")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TF32_FIELD_NUMBER: _ClassVar[int]
    provider: str
    dtype: str
    tf32: bool
    def __init__(self, provider: _Optional[str] = ..., dtype: _Optional[str] = ..., tf32: bool = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("results", "model", "bundle_digest", "calibration_digest", "score_name", "threshold", "execution_path", "request_id", "thresholds")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SCORE_NAME_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PATH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Result]
    model: str
    bundle_digest: str
    calibration_digest: str
    score_name: str
    threshold: float
    execution_path: ExecutionPath
    request_id: str
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, results: _Optional[_Iterable[_Union[Result, _Mapping]]] = ..., model: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., calibration_digest: _Optional[str] = ..., score_name: _Optional[str] = ..., threshold: _Optional[float] = ..., execution_path: _Optional[_Union[ExecutionPath, _Mapping]] = ..., request_id: _Optional[str] = ..., thresholds: _Optional[_Iterable[float]] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("response", "status", "request_id")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    response: ClassifyResponse
    status: _status_pb2.Status
    request_id: str
    def __init__(self, response: _Optional[_Union[ClassifyResponse, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "bundle_digest", "calibration_digest", "members", "labels", "input", "calibration", "execution_path", "limits", "available")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PATH_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    bundle_digest: str
    calibration_digest: str
    members: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    input: Input
    calibration: Calibration
    execution_path: ExecutionPath
    limits: Limits
    available: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., calibration_digest: _Optional[str] = ..., members: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., input: _Optional[_Union[Input, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., execution_path: _Optional[_Union[ExecutionPath, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., available: _Optional[_Iterable[str]] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("shape", "dtypes", "low", "high", "resizes", "greys_to_rgb")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    RESIZES_FIELD_NUMBER: _ClassVar[int]
    GREYS_TO_RGB_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtypes: _containers.RepeatedScalarFieldContainer[DataType]
    low: float
    high: float
    resizes: bool
    greys_to_rgb: bool
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., dtypes: _Optional[_Iterable[_Union[DataType, str]]] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., resizes: bool = ..., greys_to_rgb: bool = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("score_name", "threshold", "thresholds", "target", "clean_count")
    SCORE_NAME_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CLEAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    score_name: str
    threshold: float
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    target: str
    clean_count: int
    def __init__(self, score_name: _Optional[str] = ..., threshold: _Optional[float] = ..., thresholds: _Optional[_Iterable[float]] = ..., target: _Optional[str] = ..., clean_count: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_images", "max_message_bytes", "max_pixels")
    MAX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    max_images: int
    max_message_bytes: int
    max_pixels: int
    def __init__(self, max_images: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_pixels: _Optional[int] = ...) -> None: ...
