"""`robustness.json`: what is finished is kept, and not computed again."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detector.errors import InputError
from tests.training.robustness.conftest import rate
from training import Dataset, Run, train
from training.aim import Towards
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.result import evaluated
from training.robustness.cell import Cell
from training.robustness.cells import Cells
from training.robustness.counts import Counts
from training.robustness.measure import Job, Subject
from training.robustness.report import write_robustness

COUNTS = Counts(linf=12, minimum=3, jsma=2, strong=4)
# Of one run: two attacks in both protocols, one in one, two strong ones; two attacks in two modes on three members.
TABLES, TRANSFERS = 2 * 2 + 1 + 2, 2 * 2 * 3

pytestmark = pytest.mark.usefixtures("small_table")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What is computed; nothing is attacked for it."""
    jobs: list[Job] = []

    def counted(self: Subject, job: Job, **options: Any) -> Cell:
        jobs.append(job)
        task = self.task(job)
        share = rate(0.5, task.images)
        shares = (share,) * 3
        return Cell(
            name="made", task=task, clean=share, right=share, held=share, unnoticed=share, threshold=self.gate.least,
            clean_flagged=share, members_right=shares, seconds=1.0, machine="here",
            members_at_target=shares if isinstance(job.aim, Towards) else (),
        )  # fmt: skip

    monkeypatch.setattr(Subject, "measure", counted)
    return jobs


def write(experiment: Experiment, out: Path, *parts: str, counts: Counts = COUNTS) -> list[Cell]:
    return list(write_robustness(out, [experiment], counts, parts=parts, progress=False).cells)


def test_a_second_call_computes_nothing(experiment: Experiment, out: Path, measured: list[Job]) -> None:
    first = write(experiment, out, "robustness", "transfer")
    assert len(measured) == len(first) == 2 * (TABLES + TRANSFERS)
    page, cells = (
        (out / "robustness.md").read_text("utf-8"),
        json.loads((out / "robustness.json").read_bytes())["cells"],
    )
    again = write(experiment, out, "robustness", "transfer")
    assert len(measured) == len(first)
    assert sorted(map(str, again)) == sorted(map(str, first))
    assert json.loads((out / "robustness.json").read_bytes())["cells"] == cells
    assert (out / "robustness.md").read_text("utf-8").split("---\n\n")[0] == page.split("---\n\n")[0]
    assert {file.name for file in out.iterdir()} == {"robustness.json", "robustness.md", "fig3-digits.png"}


def test_a_part_adds_to_what_is_there(experiment: Experiment, out: Path, measured: list[Job]) -> None:
    write(experiment, out, "transfer")
    assert len(measured) == 2 * TRANSFERS
    only_transfer = (out / "robustness.md").read_text("utf-8")
    write(experiment, out, "robustness")
    assert len(measured) == 2 * (TABLES + TRANSFERS)
    both = (out / "robustness.md").read_text("utf-8")
    assert ("AutoAttack: right" in only_transfer, "AutoAttack: right" in both) == (False, True)
    assert "fig3-digits.png" in only_transfer
    assert "fig3-digits.png" in both


def test_more_images_are_computed_and_shown_and_fewer_are_not(
    experiment: Experiment, out: Path, measured: list[Job]
) -> None:
    write(experiment, out, "robustness")
    before = len(measured)
    write(experiment, out, "robustness", counts=replace(COUNTS, linf=20))
    assert {job.images for job in measured[before:]} == {20}
    assert len(measured) == before + 2 * 4
    write(experiment, out, "robustness")
    assert len(measured) == before + 2 * 4
    assert re.search(r"\| FGSM, eps = 0\.4 +\| 20 +\|", (out / "robustness.md").read_text("utf-8"))


def test_a_stop_keeps_what_is_finished(
    experiment: Experiment, out: Path, measured: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Subject.measure

    def stopping(self: Subject, job: Job, **options: Any) -> Cell:
        if len(measured) == 3:
            raise KeyboardInterrupt
        return counted(self, job, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Subject, "measure", stopping)
        with pytest.raises(KeyboardInterrupt):
            write(experiment, out, "robustness")
    assert len(json.loads((out / "robustness.json").read_bytes())["cells"]) == len(measured) == 3
    write(experiment, out, "robustness")
    assert len(measured) == 2 * TABLES


def test_cheap_figures_come_first(experiment: Experiment, out: Path, measured: list[Job]) -> None:
    write(experiment, out, "robustness")
    methods = [job.attack.method for job in measured]
    assert methods[:4] == ["fgsm"] * 4
    assert methods.index("pgd") > methods.index("fgsm")


def test_another_training_of_the_same_folder_is_another_run(
    experiment: Experiment, run: Run, digits: Dataset, tmp_path: Path, out: Path, measured: list[Job]
) -> None:
    write(experiment, out, "robustness")
    before = len(measured)
    longer = train(replace(run.config, epochs=1), tmp_path / run.path.name, progress=False)
    (other,) = experiments([evaluated(longer, digits)])
    found = write(other, out, "robustness")
    assert len(measured) == before + TABLES
    assert len(found) == TABLES  # those of the other runs stay in the file, and are not this one's
    assert len(json.loads((out / "robustness.json").read_bytes())["cells"]) == before + TABLES


@pytest.mark.parametrize("content", ["{}", "[", '{"provenance": {}, "cells": [{}]}'], ids=["empty", "torn", "other"])
def test_a_file_that_is_none_of_ours_is_refused_and_left(content: str, tmp_path: Path) -> None:
    (tmp_path / "robustness.json").write_text(content)
    with pytest.raises(InputError, match=r"robustness\.json: .*; remove the file to compute all of it anew"):
        Cells(tmp_path)
    assert (tmp_path / "robustness.json").read_text() == content


def test_a_figure_that_was_edited_is_noticed(experiment: Experiment, out: Path, measured: list[Job]) -> None:
    write(experiment, out, "robustness")
    text = (out / "robustness.json").read_text()
    (out / "robustness.json").write_text(text.replace('"count": 6', '"count": 5', 1))
    with pytest.raises(InputError, match="does not match its digest"):
        write(experiment, out, "robustness")


def test_time_is_estimated_before_the_start(
    experiment: Experiment, out: Path, measured: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    write(experiment, out, "robustness")
    said = capsys.readouterr().err
    assert said.startswith(f"{2 * TABLES} of {2 * TABLES} figures to compute on cpu; gradients alone take about ")
    write(experiment, out, "robustness")
    assert capsys.readouterr().err == ""
