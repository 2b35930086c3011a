"""The benchmarks of serving run and say what they should; how long things take is not a test's business."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import pytest

from benchmarks import first_runs
from benchmarks.ending import run
from benchmarks.firstcome import FirstCome
from benchmarks.memory import flatness, resident_mib
from benchmarks.score_in_graph import with_score
from detector.bundle import Bundle
from detector.diversity import log_diversity
from detector.ensemble import Ensemble
from serving.queue import RequestQueue

ROOT = Path(__file__).parents[3]


def quick(name: str, out: Path, *words: object) -> tuple[Any, str]:
    """What a benchmark wrote as JSON, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--out", out, *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return json.loads(out.read_text()), done.stdout


def test_memory(folder: Path, tmp_path: Path) -> None:
    found, said = quick("memory", tmp_path / "memory.json", "--bundle", folder / "tiny", "--batch", "1,7,64")
    assert found["model"]["name"] == "tiny"
    assert found["load"]["calls"]["answered"] > 0
    assert found["samples"] > 5
    assert found["flat"] is (abs(found["second_half_mib"] / found["first_half_mib"] - 1) <= 0.02)
    assert f"{found['change']:+.2%} (goal: within 2%)" in said


def test_fairness(folder: Path, tmp_path: Path) -> None:
    found, said = quick("fairness", tmp_path / "fairness.json", "--bundle", folder / "tiny", "--large", 100)
    alone, turns, order = found["rows"].values()
    assert alone["large_images_per_s"] is None
    assert found["runs"]["beside the large one, in turns"]["large"]["settings"]["batch"] == [100]
    for row in (turns, order):
        assert row["calls"] > 0
        assert row["failed"] == 0
        assert row["p50_times_alone"] == pytest.approx(row["p50_ms"] / alone["p50_ms"])
    for name in found["rows"]:
        assert f"| {name} | " in said


def test_callers(tmp_path: Path) -> None:
    found, said = quick("callers", tmp_path / "callers.json")
    assert set(found["cpu_us"]) == {
        *(f"{style}, {callers}" for style in ("threads", "callbacks", "asyncio") for callers in (1, 4)),
        "callbacks in 2 processes, 4",
    }
    for name, cpu_us in found["cpu_us"].items():
        assert cpu_us > 0
        assert f"| {name} | {cpu_us:.0f} | " in said
    assert set(found["late_ms"]) == {"a thread that sleeps", "an event loop"}


def test_memory_that_grows_is_not_flat() -> None:
    times = np.arange(0.0, 600.0)
    found = flatness(times.tolist(), (100 + times / 60).tolist())
    assert found["slope_mib_per_minute"] == pytest.approx(1.0)
    assert (found["first_half_mib"], found["second_half_mib"]) == pytest.approx((102.5, 107.5), abs=0.01)
    assert found["change"] == pytest.approx(107.5 / 102.5 - 1, abs=1e-3)


def test_memory_of_this_process_grows_by_what_it_takes() -> None:
    before = resident_mib(os.getpid())
    taken = np.ones(32 << 20, np.uint8)
    assert resident_mib(os.getpid()) - before == pytest.approx(32, abs=4)
    assert taken.nbytes == 32 << 20


@dataclass(eq=False)
class Waiting:
    count: int
    start: int = 0
    since_s: float = 0.0
    deadline_s: float = float("inf")
    caller: str = ""

    def part(self, start: int, stop: int) -> Self:
        return type(self)(stop - start, start)


@pytest.mark.parametrize(
    ("kind", "expected"), [(RequestQueue, [(1, 0), (3, 4)]), (FirstCome, [(4, 4), (2, 8)])], ids=["turns", "arrival"]
)
def test_who_comes_after_the_first_part_of_a_large_request(kind: Any, expected: list[tuple[int, int]]) -> None:
    """Batches of four: the small one goes into the next, or waits until ten images are through."""
    queue = kind(max_batch=4, batch_wait_s=0.0, max_queue=100)
    queue.put(Waiting(10))
    (first,), _ = queue.take(0.0)
    assert (first.count, first.start) == (4, 0)
    queue.put(Waiting(1))
    taken = [part for _ in range(2) for part in queue.take(0.0)[0]]
    assert [(part.count, part.start) for part in taken[:2]] == expected


def test_the_curve(folder: Path, tmp_path: Path) -> None:
    found, said = quick("serving", tmp_path / "curve.json", "--bundle", folder / "tiny", "--curve", 1, 4)
    assert list(found["cells"]) == ["2 callers, 1 images each, cpu", "2 callers, 4 images each, cpu"]
    assert said.count("| images/s by bare's | ") == 2


def test_ways(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "ways.json"
    words = ("--bundle", folder / "tiny", "--batches", "1", "3", "--repeats", "1", "--calls", "1", "--out", out)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ways", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(out.read_text())["median_ms"]
    assert list(rows) == ["1", "3"]
    assert all(0 < ms < 1000 for row in rows.values() for ms in row.values())
    assert f"| a thread for each | {rows['1']['a thread for each']:.3g} | " in done.stdout


def test_echoes(tmp_path: Path) -> None:
    found, said = quick("echoes", tmp_path / "echoes.json")
    (kinds,) = found["callers"].values()
    assert {"threads-1", "threads-4", "threads-32", "deferred", "asyncio"} <= set(kinds)
    for kind, turns in kinds.items():
        assert all(turn["calls_per_s"] > 0 for turn in turns)
        assert f"| 2 | {kind} | " in said


def test_the_score_in_the_graph_is_log_diversity(folder: Path) -> None:
    """Of the members as they are, and times a factor; so what the benchmark compares is the same score."""
    bundle = Bundle.open(folder / "tiny")
    images = np.random.default_rng(0).random((20, *bundle.input.shape), dtype=np.float32)
    logits = Ensemble(bundle.members, device="cpu").logits(images).astype(np.float64)
    for factor in (1.0, 2.0):
        graph = with_score(bundle, factor).SerializeToString()
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {bundle.input.name: images})
        np.testing.assert_allclose(found, log_diversity(factor * logits), rtol=1e-4, atol=1e-4)


def test_first_runs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "first.json"
    options = first_runs.parse(["--bundle", str(folder / "tiny"), "--repeats", "1", "--out", str(out)])
    assert run(options, first_runs.measure, first_runs.table) == 0
    rows = json.loads(out.read_text())["ms"]
    assert list(rows)[:2] == ["1, nothing before", "1, after 1 and 32"]
    assert all(row["later"] > 0 and row["first"] > 0 for row in rows.values())


def test_score_in_graph(tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    words = ("--repeats=1", "--calls=1", "--images=8", f"--out={out}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.score_in_graph", *words],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(out.read_text())
    assert found["score"]["as they are"]["images"] == 8
    assert found["score"]["as they are"]["largest"] < 1e-4
    assert all(ms > 0 for row in found["cpu_ms"].values() for ms in row.values())
