"""`ledgate evaluate`, as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledgate.cli import main
from training import Run, TrainConfig, train
from training.evaluation.setting import Setting

WRITTEN = {"table1.md", "table1.json", "fig5-digits.png", "fig2-digits.png"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    settings = [Setting.parse(name) for name in ("adp-2-0.5", "baseline")]
    return [
        train(TrainConfig(members=3, epochs=1, alpha=setting.alpha, beta=setting.beta), folder / setting.name,
              progress=False)
        for setting in settings
    ]  # fmt: skip


def test_evaluate_writes_tables_and_figures(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    words = ["evaluate", *(str(run.path) for run in runs), "--points", "40", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {file.name for file in out.iterdir()} == WRITTEN
    assert said == {"path": str(out), **json.loads((out / "table1.json").read_text("utf-8"))}
    assert [result["run"] for result in said["results"]] == ["baseline", "adp-2-0.5"]
    assert "torch" in said["provenance"]["versions"]
    for figure in out.glob("*.png"):
        assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert figure.stat().st_size < 300_000
        assert f"]({figure.name})" in (out / "table1.md").read_text("utf-8")

    (out / "table1.md").write_text("old")
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    error = said["results"][0]["ensemble_error"]
    assert lines[1].startswith(f"  baseline, seed 0: {100 * error['rate']:.2f} % of 359 test images wrong")
    assert "## digits: 3 x cnn, 1 epoch\n" in (out / "table1.md").read_text("utf-8")
    assert {file.name for file in out.iterdir()} == WRITTEN


@pytest.mark.parametrize("what", ["points", "nowhere", "twice"])
def test_refusals_are_one_line_and_write_nothing(
    what: str, runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(runs[0].path)
    second, points, status, message = {
        "points": (str(runs[1].path), "9", 2, "points: expected at least 10, found 9"),
        "nowhere": ("nowhere", "40", 1, "nowhere: expected a training run's folder, found nothing"),
        "twice": (
            run,
            "40",
            1,
            f"{run}: expected runs that differ in settings or seed, found the settings and seed of {run}",
        ),
    }[what]
    assert main(["evaluate", run, second, "--points", points, "--out", str(tmp_path / "out")]) == status
    assert capsys.readouterr() == ("", f"ledgate evaluate: {message}\n")
    assert list(tmp_path.iterdir()) == []
