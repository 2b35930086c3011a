"""The benchmark of devices and precisions runs and says what it should; how long things take is not its business."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.choices import Choice, choices
from detector.precision import Precision

ROOT = Path(__file__).parents[2]


def test_on_the_cpu(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.choices", "--quick", "--out", tmp_path / "choices.json"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    whole, half = json.loads((tmp_path / "choices.json").read_text())["choices"]
    assert (whole["name"], half["name"]) == ("cpu float32", "cpu float16")
    assert (whole["score_largest"], whole["flags_turned"], whole["calibration_holds"]) == (0, 0, True)
    assert half["score_largest"] > half["score_median"] > 0
    assert not half["calibration_holds"]
    assert "does not hold on CPUExecutionProvider float16" in half["probes"]
    assert f"| cpu float16 | {half['score_largest']:.2g} | " in done.stdout


def test_what_devices_offer() -> None:
    assert [str(one) for one in choices("cuda:1")] == [
        *("cuda:1 float32", "cuda:1 float16", "cuda:1 float32, graphs", "cuda:1 float32, pinned memory"),
    ]
    assert choices("tensorrt")[2] == Choice(device="tensorrt", precision=Precision.BFLOAT16)
