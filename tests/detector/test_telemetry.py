"""ONNX Runtime's reports to its maker stay off: they name models, and leave an identifier in the home folder."""

import os
import subprocess
import sys
from pathlib import Path

from detector.bundle import Bundle


def test_opening_a_detector_leaves_nothing_in_the_home_folder(bundle: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # `CI` would switch the reports off by itself.
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}}
    code = "import sys, ledgate; print(ledgate.Detector.open(sys.argv[1], device='cpu', threads=1).bundle.member_count)"
    result = subprocess.run(
        [sys.executable, "-c", code, str(bundle.path)],
        env={**kept, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "3\n"
    assert [path for path in home.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.name] == []
