"""`ledgate evaluate --parts detection`, as a user meets it."""

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from ledgate.cli import main
from training import Run
from training.commands import evaluate

COUNTS = ["--images-linf", "12", "--images-minimum", "5", "--images-strong", "3"]


@pytest.mark.usefixtures("small_ladders")
def test_one_command_writes_figure_page_and_json(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    words = ["evaluate", str(run.path), "--device", "cpu", "--out", str(out), *COUNTS, "--parts", "detection"]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("at most 17 sets of images to attack on cpu, at most about ")
    found = json.loads(said.out)["detection"]["runs"]
    assert found == json.loads((out / "detection.json").read_bytes())["runs"]
    assert [attack["right"]["n"] for attack in found[0]["attacks"]] == [12, 12, 5]
    assert not (out / "table1.md").exists()

    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"{out / 'detection.md'}: how well attacks on 1 run are detected"
    assert said.err == ""


def test_one_number_of_images_for_all_attacks_but_those_that_have_their_own() -> None:
    parser = ArgumentParser()
    evaluate.configure(parser)
    asked = parser.parse_args(["run", "--out", "out", "--images", "7", "--images-jsma", "2"])
    assert evaluate.given(asked) == {"linf": 7, "minimum": 7, "jsma": 2, "strong": 7}
    nothing = parser.parse_args(["run", "--out", "out"])
    assert set(evaluate.given(nothing).values()) == {None}


def test_help_says_how_many_images(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "for detection (default: 1,000 on a GPU, 1,000 on a CPU)" in said
    assert "for detection (default: 1,000 on a GPU, 30 on a CPU)" in said
