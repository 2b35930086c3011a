"""The benchmark beside bare ONNX Runtime, an echo and others; how long things take is not a test's business."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.bare import Way
from benchmarks.serving.children import Child, module
from benchmarks.serving.contenders import Alone, Load, Turn, echo
from benchmarks.serving.rounds import Cell, Goal, table
from tests.serving.bench.test_benchmarks import quick


def goals(cell: dict[str, Any]) -> list[str]:
    """What a comparison's figures should be, as far as they have a goal."""
    return [figure["goal"] for figure in cell["figures"].values() if figure["goal"]]


def test_every_comparison_and_its_goals(folder: Path, tmp_path: Path) -> None:
    tiny = folder / "tiny"
    found, said = quick("serving", tmp_path / "serving.json", "--bundle", tiny, "--small", tiny, "--no-peers")
    singles, lone, batches, small = found["cells"].values()
    assert [goals(cell) for cell in (singles, lone, batches, small)] == [
        [">= 0.85", ">= 0.92"],
        ["<= 0.3"],
        [">= 0.98"],
        [">= 0.8"],
    ]
    assert set(singles["turns"]) == set(batches["turns"]) == {"ours", "bare"}
    assert set(lone["turns"]) == set(small["turns"]) == {"ours", "echo", "bare"}
    for cell in found["cells"].values():
        for turns in cell["turns"].values():
            assert all(turn["calls_per_s"] > 0 for turn in turns)
    assert found["settings"]["seed"] == 0
    assert "onnxruntime-gpu" in found["provenance"]["versions"] or "onnxruntime" in found["provenance"]["versions"]
    assert said.startswith(found["machine"])
    assert "| figure | median | lowest to highest | goal | |" in said


def test_missed_and_reached_are_said() -> None:
    turn = Turn(images_per_s=1, calls_per_s=1, server_ms=1, client_ms=0, client_share=0, p50_ms=1, p99_ms=1)
    goals = [
        Goal(name="low", found=[0.8, 0.7, 0.99], least=0.85),
        Goal(name="high", found=[0.2, 0.9, 0.3], most=0.3),
        Goal(name="shown", found=[1.0]),
    ]
    said = table([Cell(name="load", turns={"ours": [turn]}, goals=goals)])
    assert "| low | 0.800 | 0.700 to 0.990 | >= 0.85 | missed |" in said
    assert "| high | 0.300 | 0.200 to 0.900 | <= 0.3 | reached |" in said
    assert "| shown | 1.000 | 1.000 to 1.000 |  |  |" in said


def test_callers_counted_out() -> None:
    """Two cores for a second, of which the callers took half of one: a quarter of all."""
    found = {"calls": 10, "seconds": 1.0, "server_cpu_s": 1.2, "client_cpu_s": 0.5, "p50_ms": 1.0, "p99_ms": 2.0}
    turn = Turn.of(found, images=3, cores=2)
    assert (turn.images_per_s, turn.calls_per_s, turn.client_share) == (30.0, 10.0, 0.25)
    assert [turn.server_ms, turn.client_ms] == pytest.approx([40.0, 500 / 30])


@pytest.mark.parametrize("callers", [1, 3])
def test_an_echo_is_called(callers: int) -> None:
    served = echo()
    with served.child, Child(module("benchmarks.serving.load")) as calling:
        load = Load(callers=callers, images=np.zeros((1, 1, 8, 8), np.float32), seconds=0.1)
        turn = served.turn(calling, load, 2)
    assert turn.calls_per_s > 0
    assert 0 < turn.p50_ms <= turn.p99_ms


def test_the_best_way_is_the_one_with_most_images_a_second(folder: Path) -> None:
    alone = Alone(folder / "tiny", "cpu")
    with alone.child:
        ways = [Way(runners=1, threads=1, batch=1), Way(runners=1, threads=1, batch=256)]
        assert alone.best(ways, 0.1, 1, trials=1) == ways[1]


def test_a_child_that_says_nothing_is_ended() -> None:
    with pytest.raises(RuntimeError, match="expected a line of JSON, found the end"):
        Child([sys.executable, "-c", ""])


def test_cpu_time_counts_a_childs_children() -> None:
    """Its child burns a tenth of a second and stays; itself it only waits."""
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint('{}', flush=True)\ntime.sleep(600)"
    parent = (
        "import signal, subprocess, sys; "
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
        "signal.signal(signal.SIGTERM, lambda *_: child.kill()); child.wait()"
    )
    with Child([sys.executable, "-c", parent, burn]) as child:
        assert child.cpu_s() >= 0.45
