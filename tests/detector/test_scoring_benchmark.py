"""The benchmark of the scores runs and says what it should; how long things take is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

from detector.scores import SCORES

ROOT = Path(__file__).parents[2]


def test_scoring(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scoring", "--quick", "--out", tmp_path / "scoring.json"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "scoring.json").read_text())
    verdicts = {f"all of a verdict by {name}" for name in SCORES}
    assert {name.split(",")[0] for name in found["times_ms"]} == {*SCORES, *verdicts, "mean prediction"}
    aimed = [*verdicts, "log_diversity", "log_diversity, members alike"]
    assert found["goals_ms"] == {f"{name}, 256 x 3 x 10": 0.5 for name in aimed}
    for name, (value,) in found["times_ms"].items():
        assert value >= 0
        assert f"| {name} | {value:.3f} |" in done.stdout
    assert found["provenance"]["versions"]["numpy"]
