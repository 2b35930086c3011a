"""tritonserver from the nvidia-pytriton wheel, with its Python backend: `python -m ... BUNDLE`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import grpc

from benchmarks.peers.servers.launching import free_port, tell_when
from benchmarks.peers.servers.sessions import Sessions
from detector.device import usable_cores
from protos.inference import inference_pb2, inference_pb2_grpc

_MODEL: Final = "members"
_CONFIG: Final = """
backend: "python"
max_batch_size: {batch}
input [{{ name: "images" data_type: TYPE_FP32 dims: [ {shape} ] }}]
output [{{ name: "logits" data_type: TYPE_FP32 dims: [ {members}, {classes} ] }}]
instance_group [{{ count: {cores} kind: KIND_CPU }}]
dynamic_batching {{ }}
parameters {{ key: "bundle" value {{ string_value: "{bundle}" }} }}
"""


def main() -> None:
    """Serves until it is ended."""
    bundle = Path(sys.argv[1]).resolve()
    home = _home()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        version = repository / _MODEL / "1"
        version.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")
        members = Sessions(bundle)
        (version.parent / "config.pbtxt").write_text(_CONFIG.format(
            batch=32, shape=", ".join(map(str, members.shape)), members=len(members), classes=members.classes,
            cores=usable_cores(), bundle=bundle,
        ))  # fmt: skip
        address = f"127.0.0.1:{(port := free_port())}"
        command = [
            str(home / "bin" / "tritonserver"), f"--model-repository={repository}",
            f"--backend-directory={home / 'backends'}", "--grpc-address=127.0.0.1", f"--grpc-port={port}",
            "--allow-http=false", "--allow-metrics=false", "--log-info=false", "--log-warning=false",
        ]  # fmt: skip
        tell_when(lambda: _ready(address), subprocess.Popen(command, env=_environment()), address, "nvidia-pytriton")


def _home() -> Path:
    """Where the wheel has tritonserver."""
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tritonserver"


def _environment() -> dict[str, str]:
    """The stub loads the very libpython of this environment, and finds what this process finds."""
    libraries = os.pathsep.join(filter(None, [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]))
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "LD_LIBRARY_PATH": libraries, "PYTHONPATH": path, "PYTHONHOME": sys.base_prefix}


def _ready(address: str) -> bool:
    """Whether the model answers."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = inference_pb2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        try:
            ready = stub.ModelReady(inference_pb2.ModelReadyRequest(name=_MODEL), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(ready.ready)


if __name__ == "__main__":
    main()
