"""`scripts/figure4`: one command for Fig. 4 with other detectors beside ours."""

import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.detectors import parse
from benchmarks.peers.detectors import MAKERS

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "figure4"


def figure4(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False, cwd=cwd)


def test_it_says_what_it_would_run(tmp_path: Path) -> None:
    done = figure4(
        "one", "two", "--data-root", "data", "--out", "out", "--dry-run", "--", "--images", "7", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    evaluate, peers, beside, other_peers, other_beside = map(shlex.split, done.stdout.splitlines())
    assert evaluate[:3] == [sys.executable, "-m", "ledgate.cli"]
    assert evaluate[3] == "evaluate"
    assert evaluate[-4:] == ["--parts", "detection", "--images", "7"]
    assert [peers, other_peers] == [[str(ROOT / "scripts/peers")], [str(ROOT / "scripts/peers-detection")]]
    asked = []
    for step, environment in ((beside, "peers"), (other_beside, "peers-detection")):
        assert step[:3] == [str(ROOT / f".venv-{environment}/bin/python"), "-m", "benchmarks.detectors"]
        options = parse(step[3:])
        assert options.run_folders == [tmp_path / "one", tmp_path / "two"]
        assert (options.data_root, options.out) == (tmp_path / "data", tmp_path / "out")
        asked += options.detectors
    assert asked == list(MAKERS)


def test_it_stops_at_the_first_failure(tmp_path: Path) -> None:
    done = figure4(str(tmp_path / "none"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "figure4: stopped, since that failed with status 1"
    assert "detectors" not in done.stderr
