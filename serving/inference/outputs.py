"""The tensors of a reply: what each is made of, which a model has, and which a caller asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.errors import InputError
from detector.verdicts import Verdicts
from protos.inference import inference_pb2
from serving.config import Reply, ServerConfig
from serving.inference.requests import MEMBERS, refuse_parameters, shown

# datatype -> how its numbers are laid out as bytes, and the field that holds them otherwise
_FORMS: Final = {"FP64": ("<f8", "fp64_contents"), "INT64": ("<i8", "int64_contents"), "BOOL": ("?", "bool_contents")}


@dataclass(frozen=True, kw_only=True)
class Output:
    """One tensor.

    Attributes:
        name: By which it is asked for.
        datatype: The protocol's name of its type.
        read: Where it stands in the verdicts; N comes first.
        shape: Its axes after N, for a bundle.
    """

    name: str
    datatype: str
    read: Callable[[Verdicts], NDArray[Any] | None]
    shape: Callable[[Bundle], tuple[int, ...]] = lambda _: ()

    def describe(self, bundle: Bundle) -> inference_pb2.ModelMetadataResponse.TensorMetadata:
        """What a client may know of it."""
        shape = (-1, *self.shape(bundle))
        return inference_pb2.ModelMetadataResponse.TensorMetadata(name=self.name, datatype=self.datatype, shape=shape)

    def write(self, verdicts: Verdicts, reply: inference_pb2.ModelInferResponse, *, raw: bool) -> None:
        """Adds it to a reply, as bytes or as numbers."""
        values = self.read(verdicts)
        assert values is not None
        tensor = reply.outputs.add(name=self.name, datatype=self.datatype, shape=values.shape)
        dtype, field = _FORMS[self.datatype]
        if raw:
            reply.raw_output_contents.append(values.astype(dtype, copy=False).tobytes())
        else:
            getattr(tensor.contents, field).extend(values.ravel().tolist())


_LABEL: Final = Output(name="label", datatype="INT64", read=lambda verdicts: verdicts.labels)
_PROBABILITIES: Final = Output(
    name="probabilities",
    datatype="FP64",
    read=lambda verdicts: verdicts.probabilities,
    shape=lambda bundle: (bundle.class_count,),
)
_RECALIBRATED: Final = Output(
    name="recalibrated_probabilities",
    datatype="FP64",
    read=lambda verdicts: verdicts.recalibrated_probabilities,
    shape=lambda bundle: (bundle.class_count,),
)
_ADVERSARIAL: Final = Output(name="adversarial", datatype="BOOL", read=lambda verdicts: verdicts.adversarial)
_LOG_DIVERSITY: Final = Output(name="log_diversity", datatype="FP64", read=lambda verdicts: verdicts.log_diversity)
_SCORE: Final = Output(name="score", datatype="FP64", read=lambda verdicts: verdicts.score)
_P_VALUE: Final = Output(name="p_value", datatype="FP64", read=lambda verdicts: verdicts.p_values)
_MEMBERS: Final = Output(
    name=MEMBERS,
    datatype="FP64",
    read=lambda verdicts: verdicts.member_probabilities,
    shape=lambda bundle: (bundle.member_count, bundle.class_count),
)


def offered(bundle: Bundle, config: ServerConfig) -> list[Output]:
    """What a server tells of a model: no flag without a calibration, no score where replies are flag-only."""
    calibration = bundle.calibration
    full = config.reply is Reply.FULL
    choices = [
        (_LABEL, True),
        (_PROBABILITIES, True),
        (_RECALIBRATED, calibration is not None and calibration.confidence is not None),
        (_ADVERSARIAL, calibration is not None),
        (_LOG_DIVERSITY, full),
        (_SCORE, full),
        (_P_VALUE, full and calibration is not None),
        (_MEMBERS, config.allow_members),
    ]
    return [output for output, there in choices if there]


def chosen(
    outputs: Sequence[Output], asked: Sequence[inference_pb2.ModelInferRequest.InferRequestedOutputTensor]
) -> list[Output]:
    """Those that a caller asked for, in that order; else all but the members'.

    Raises:
        InputError: Asked for one that is not offered.
    """
    if not asked:
        return [output for output in outputs if output is not _MEMBERS]
    known = {output.name: output for output in outputs}
    for number, tensor in enumerate(asked):
        if tensor.name not in known:
            raise InputError(f"outputs[{number}].name: expected {' or '.join(known)}, found {shown(tensor.name)}")
        refuse_parameters(tensor.parameters, f"outputs[{number}].parameters")
    return [known[tensor.name] for tensor in asked]
