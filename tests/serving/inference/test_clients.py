"""Clients of Triton and KServe, unchanged, each in a process of its own."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.detector import Detector
from tests.serving.conftest import PATIENCE_S, SHAPE, Served, picture

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-clients/bin/python"
DOCS = ROOT / "docs/open-inference.md"
PICTURES = range(40)

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="expected .venv-clients, found none; scripts/clients makes it"
)

TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
images = np.load(sys.argv[2])
told = {
    "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("tiny")],
    "server": client.get_server_metadata(as_json=True)["name"],
    "model": client.get_model_metadata("tiny", as_json=True),
    "index": client.get_model_repository_index(as_json=True),
    "answers": [],
}

def data(images, datatype):
    tensor = triton.InferInput("images", images.shape, datatype)
    tensor.set_data_from_numpy(images)
    return [tensor]

def read(result, names):
    parameters = result.get_response().parameters
    return {
        "digest": parameters["bundle_digest"].string_param,
        "threshold": float(parameters["threshold"].string_param),
        **{name: result.as_numpy(name).tolist() for name in names},
    }

names = ["label", "probabilities", "adversarial", "log_diversity", "score", "p_value"]
told["answers"].append(read(client.infer("tiny", data(images, "FP32"), request_id="a"), names))
told["answers"].append(read(client.infer("tiny", data((images * 255).astype(np.uint8), "UINT8")), names))
told["answers"].append(read(client.infer("tiny", data(images, "FP32"), compression_algorithm="gzip"), names))
chosen = [triton.InferRequestedOutput(name) for name in ("score", "label")]
reply = client.infer("tiny", data(images, "FP32"), outputs=chosen).get_response()
told["chosen"] = [output.name for output in reply.outputs]
told["refused"] = []
for call in (
    lambda: client.infer("nope", data(images, "FP32")),
    lambda: client.infer("tiny", data(images[:, :, :7], "FP32")),
    lambda: client.infer("tiny", data(images + 1, "FP32")),
    lambda: client.get_model_config("tiny"),
):
    try:
        call()
    except InferenceServerException as error:
        told["refused"].append([error.status(), error.message()])
print(json.dumps(told))
"""

KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

async def main():
    client = InferenceGRPCClient(sys.argv[1])
    images = np.load(sys.argv[2])
    told = {
        "ready": [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("tiny")],
        "answers": [],
    }
    for binary in (True, False):
        tensor = InferInput("images", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        reply = await client.infer(InferRequest(model_name="tiny", infer_inputs=[tensor]))
        told["answers"].append({
            "digest": reply.parameters["bundle_digest"].string_param,
            "threshold": float(reply.parameters["threshold"].string_param),
            **{output.name: output.as_numpy().tolist() for output in reply.outputs},
        })
    await client.close()
    print(json.dumps(told))

asyncio.run(main())
"""

BOTH = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
import ledgate

images = np.load(sys.argv[2])
tensor = triton.InferInput("images", images.shape, "FP32")
tensor.set_data_from_numpy(images)
theirs = triton.InferenceServerClient(sys.argv[1]).infer("tiny", [tensor])
with ledgate.Client(sys.argv[1]) as client:
    ours = client.classify(images)
print(json.dumps({"ours": ours.score.tolist(), "theirs": theirs.as_numpy("score").tolist()}))
"""


@pytest.fixture
def run(serve: Callable[..., Served], tiny: Detector, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Runs a client's program against a server, and returns what it prints."""
    served = serve(tiny)
    images = np.stack([picture(number) for number in PICTURES])
    np.save(tmp_path / "images.npy", images)

    def told(program: str) -> dict[str, Any]:
        done = subprocess.run(
            [PYTHON, "-c", program, served.address, tmp_path / "images.npy"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    return told


def expected(tiny: Detector) -> dict[str, Any]:
    """The answer, to the bit."""
    verdicts = tiny.classify(np.stack([picture(number) for number in PICTURES]))
    calibration = tiny.bundle.calibration
    assert calibration is not None
    assert verdicts.adversarial is not None
    assert verdicts.log_diversity is not None
    assert verdicts.score is not None
    assert verdicts.p_values is not None
    return {
        "digest": tiny.bundle.digest,
        "threshold": calibration.threshold,
        "label": verdicts.labels.tolist(),
        "probabilities": verdicts.probabilities.tolist(),
        "adversarial": verdicts.adversarial.tolist(),
        "log_diversity": verdicts.log_diversity.tolist(),
        "score": verdicts.score.tolist(),
        "p_value": verdicts.p_values.tolist(),
    }


def test_tritons_client(run: Callable[[str], dict[str, Any]], tiny: Detector) -> None:
    told = run(TRITON)
    assert told["ready"] == [True, True, True]
    assert told["server"] == "ledgate"
    assert told["model"]["inputs"] == [{"name": "images", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]}]
    assert told["index"] == {"models": [{"name": "tiny", "version": "1", "state": "READY"}]}
    assert told["answers"] == [expected(tiny)] * 3
    assert told["chosen"] == ["score", "label"]
    codes, texts = zip(*told["refused"], strict=True)
    assert codes == tuple(f"StatusCode.{name}" for name in ("NOT_FOUND", *["INVALID_ARGUMENT"] * 2, "UNIMPLEMENTED"))
    assert texts[0] == "model: expected tiny, found 'nope'"
    assert texts[1].startswith("inputs[0].shape: expected (N, 1, 8, 8) or (1, 8, 8), found (40, 1, 7, 8)")
    assert texts[2].startswith("images[0]: expected values in [0, 1]")


def test_kserves_client(run: Callable[[str], dict[str, Any]], tiny: Detector) -> None:
    told = run(KSERVE)
    assert told["ready"] == [True, True, True]
    assert told["answers"] == [expected(tiny)] * 2


def test_the_example_of_the_docs(run: Callable[[str], dict[str, Any]], tiny: Detector) -> None:
    found = re.search(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert found is not None
    assert "localhost:50051" in found[1]
    example = found[1].replace('"localhost:50051"', "sys.argv[1]")
    verdicts = tiny.classify(np.zeros((2, *SHAPE), np.uint8))
    assert verdicts.score is not None
    told = 'json.dumps({"score": result.as_numpy("score").tolist()})'
    assert run(f"import json, sys\n{example}\nprint({told})") == {"score": verdicts.score.tolist()}


def test_our_client_beside_another_in_one_process(run: Callable[[str], dict[str, Any]], tiny: Detector) -> None:
    score = expected(tiny)["score"]
    assert run(BOTH) == {"ours": score, "theirs": score}
