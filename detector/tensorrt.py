"""TensorRT: what ONNX Runtime is told of a member there, and whether all of the member runs there.

TensorRT builds an engine for each member when its session is opened. It is built for 1 image to the largest batch, so
that no batch of another size builds one anew while callers wait.
"""

from typing import Any, Final

from detector.device import TENSORRT, Device
from detector.document import sha256
from detector.errors import DeviceError
from detector.member import parse_member
from detector.precision import Precision
from detector.tuning import Tuning

RECORD: Final = "session.record_ep_graph_assignment_info"
"""The entry of a session's configuration that `elsewhere` needs set to 1."""


def provider_options(content: bytes, device: Device, precision: Precision, tuning: Tuning) -> dict[str, str]:
    """ONNX Runtime's options of TensorRT for one member, which goes in as float32 and is made narrower there."""
    member = parse_member(content, "")
    shape = "x".join(map(str, member.shape))
    options = {
        "device_id": str(device.index),
        "trt_fp16_enable": str(int(precision is Precision.FLOAT16)),
        "trt_bf16_enable": str(int(precision is Precision.BFLOAT16)),
        "trt_profile_min_shapes": f"{member.input}:1x{shape}",
        "trt_profile_opt_shapes": f"{member.input}:{tuning.max_batch}x{shape}",
        "trt_profile_max_shapes": f"{member.input}:{tuning.max_batch}x{shape}",
    }
    if tuning.engine_cache is None:
        return options
    return {
        **options,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tuning.engine_cache),
        # Else a cached engine is found by its graph alone, and members of one architecture would all be the first.
        "trt_engine_cache_prefix": f"{sha256(content)}_{precision}_{tuning.max_batch}",
    }


def elsewhere(session: Any, provider: str = TENSORRT) -> list[str]:
    """The operators of a session that another provider runs, by name and sorted; see `RECORD`."""
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != provider]
    return sorted({node.op_type for part in parts for node in part.get_nodes()})


def check_whole(session: Any, number: int, device: Device) -> None:
    """Raises DeviceError unless TensorRT runs all of a member."""
    left = elsewhere(session)
    if left:
        raise DeviceError(
            f"device {device}: expected all operators of member {number} on TensorRT, found {', '.join(left)} "
            "elsewhere; --device cuda runs them"
        )
