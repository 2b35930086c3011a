"""What TensorRT is told of a member, and how it is seen whether it runs all of it."""

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from detector.device import CPU, CUDA, TENSORRT, Device
from detector.errors import DeviceError
from detector.precision import Precision
from detector.session import Sessions
from detector.tensorrt import RECORD, check_whole, elsewhere, provider_options
from detector.tuning import Tuning
from tests.conftest import make_members, make_model

DEVICE = Device(provider=TENSORRT, index=1)


def told(content: bytes, precision: Precision = Precision.FLOAT32, **tuning: Any) -> dict[str, str]:
    return provider_options(content, DEVICE, precision, Tuning(**tuning))


def test_an_engine_is_built_for_one_image_to_the_largest_batch() -> None:
    options = told(make_model(input_name="x", shape=(3, 8, 9)).SerializeToString(), max_batch=24)
    assert options["device_id"] == "1"
    assert options["trt_profile_min_shapes"] == "x:1x3x8x9"
    assert options["trt_profile_max_shapes"] == options["trt_profile_opt_shapes"] == "x:24x3x8x9"


@pytest.mark.parametrize(
    ("precision", "half", "brain"),
    [(Precision.FLOAT32, "0", "0"), (Precision.FLOAT16, "1", "0"), (Precision.BFLOAT16, "0", "1")],
)
def test_precisions(precision: Precision, half: str, brain: str) -> None:
    options = told(make_members(1)[0], precision)
    assert (options["trt_fp16_enable"], options["trt_bf16_enable"]) == (half, brain)


def test_no_engine_is_kept_unless_asked() -> None:
    assert not [name for name in told(make_members(1)[0]) if "cache" in name]


def test_kept_engines_of_two_members_have_two_names(tmp_path: Path) -> None:
    """And so have those of one member in two precisions, or for two sizes of batches."""
    first, second = make_members(2)
    every = [
        told(first, engine_cache=tmp_path),
        told(second, engine_cache=tmp_path),
        told(first, Precision.FLOAT16, engine_cache=tmp_path),
        told(first, engine_cache=tmp_path, max_batch=7),
    ]
    assert len({options["trt_engine_cache_prefix"] for options in every}) == len(every)
    assert every[0]["trt_engine_cache_enable"] == "1"
    assert every[0]["trt_engine_cache_path"] == str(tmp_path)
    assert told(first, engine_cache=tmp_path) == every[0]


def test_cuda_and_the_cpu_stand_behind_it() -> None:
    sessions = Sessions(device=DEVICE, precision=Precision.FLOAT32, threads=1, tuning=Tuning())
    (first, _), (second, options), last = sessions._providers(make_members(1)[0])
    assert (first, second, last) == (TENSORRT, CUDA, CPU)
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")


def test_what_runs_elsewhere_is_named_and_refused() -> None:
    """By a session on the CPU: all of it is elsewhere."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(RECORD, "1")
    session = onnxruntime.InferenceSession(make_members(1)[0], options, providers=[CPU])
    assert elsewhere(session, CPU) == []
    assert elsewhere(session) == ["Flatten", "MatMul"]
    expected = (
        r"^device tensorrt:1: expected all operators of member 2 on TensorRT, found Flatten, MatMul elsewhere; "
        r"--device cuda runs them$"
    )
    with pytest.raises(DeviceError, match=expected):
        check_whole(session, 2, DEVICE)
