"""`ledgate evaluate --parts robustness transfer`, as a user meets it."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ledgate.cli import main
from training import Run

COUNTS = ["--images-linf", "12", "--images-minimum", "3", "--images-strong", "4"]


@pytest.mark.usefixtures("small_table")
def test_one_command_writes_tables_figure_and_json(
    run: Run, baseline: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run.path), str(baseline.path), "--device", "cpu", "--out", str(out), *COUNTS,
             "--parts", "robustness", "transfer"]  # fmt: skip
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err.startswith("38 of 38 figures to compute on cpu; gradients alone take about ")
    assert {file.name for file in out.iterdir()} == {"robustness.json", "robustness.md", "fig3-digits.png"}
    kept = json.loads((out / "robustness.json").read_text("utf-8"))
    by_key = {json.dumps(cell["task"]): cell for cell in kept["cells"]}
    assert {json.dumps(cell["task"]): cell for cell in found["cells"]} == by_key
    assert {cell["right"]["n"] for cell in kept["cells"]} == {12, 3, 4}
    assert "pyautoattack" in found["provenance"]["versions"]
    page = (out / "robustness.md").read_text("utf-8")
    assert "](fig3-digits.png)" in page
    assert re.search(r"\| C&W, c = 10, steps = 20 +\| 3 +\|", page)
    with Image.open(out / "fig3-digits.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300

    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"{out / 'robustness.md'}: what is left of them under attack, 38 figures"
    assert said.err == ""
    assert not (out / "table1.md").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images-jsma", "0"], "images-jsma: expected at least 1, found 0"),
        (["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
    ],
    ids=["images", "device"],
)
def test_refusals_are_one_line_and_write_nothing(
    words: list[str], message: str, run: Run, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run.path), "--parts", "robustness", *words, "--out", str(out)]) == 2
    assert capsys.readouterr() == ("", f"ledgate evaluate: {message}\n")
    assert not out.exists()


def test_an_unknown_part_is_a_usage_error(run: Run, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(run.path), "--out", str(out), "--parts", "rumours"])
    assert "--parts: invalid choice: 'rumours'" in capsys.readouterr().err


def test_help_says_how_many_images_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: 10,000 on a GPU, 500 on a CPU)" in said
    assert "(default: 1,000 on a GPU, 30 on a CPU)" in said
    for option in ("--parts", "--device", "--images-linf", "--images-minimum", "--images-jsma", "--images-strong"):
        assert option in said
