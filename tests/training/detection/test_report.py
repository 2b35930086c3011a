"""`detection.json`, `detection.md` and Fig. 4, from attacks on real runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from detector.errors import InputError
from detector.imageset import ImageSet
from tests.training.detection.conftest import COUNTS, LADDERS
from training import Dataset, Run, train
from training.detection.content import Content
from training.detection.material import Answers
from training.detection.peers import Beside, Peers
from training.detection.picture import picture
from training.detection.report import write_detection, write_page
from training.detection.subject import Subject
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.result import evaluated
from training.evaluation.setting import Setting
from training.splits import split_rows

pytestmark = pytest.mark.usefixtures("small_ladders")


def test_everything_is_written(results: Path) -> None:
    files = {file.name for file in results.iterdir()}
    assert files == {"detection.json", "detection.md", "fig4-digits.png", "detection-images"}
    with Image.open(results / "fig4-digits.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 1.3 * drawn.height


def test_strengths_are_the_same_for_every_run_and_say_what_they_leave(content: Content) -> None:
    first, second = content.runs
    for one, other in zip(first.attacks, second.attacks, strict=True):
        assert one.settings == other.settings
        rungs = [rung.name for rung in one.tried]
        assert rungs == [attack.name for attack in LADDERS[one.method][: len(rungs)]]
        assert one.reached == (max(rate.rate for rate in one.tried[-1].right) <= 0.01)
    reached = {attack.method: attack.reached for attack in first.attacks}
    assert (reached["fgsm"], reached["pgd"]) == (False, True)
    assert [len(attack.tried) for attack in first.attacks[:2]] == [2, 2]


def test_strengths_are_chosen_on_validation_images_and_measured_on_test_images(
    content: Content, results: Path, digits: Dataset
) -> None:
    rows = split_rows(digits)
    for run in content.runs:
        for attack in run.attacks:
            for file, split in ((attack.file, "test"), (attack.chosen_on, "validation")):
                images = ImageSet.load(results / "detection-images" / file)
                assert set(images.rows.tolist()) <= set(rows[split].tolist())


def test_figures_are_of_every_score(content: Content, subject: Subject) -> None:
    for run in content.runs:
        assert [each.detector for each in run.figures] == list(subject.scores)
        assert [each.score for each in run.aimed] == list(subject.scores)
        assert run.figures[0].detector == "typicality"
        assert run.figures[0].fitted_on == f"{len(subject.fit)} clean calibration images"
    assert content.runs[0].images["cw"] == content.runs[0].attacks[2].right.n == 12


def test_who_aims_at_a_score_is_judged_by_it(content: Content) -> None:
    for run in content.runs:
        for each in run.aimed:
            assert each.unnoticed.count <= each.wrong.count <= each.wrong.n == COUNTS.strong


def test_a_second_call_attacks_nothing(
    experiment: Experiment, results: Path, content: Content, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("training.detection.kept.attack", lambda *_, **__: pytest.fail("attacked again"))
    again = write_detection(results, [experiment], COUNTS, progress=False)
    assert again.runs == content.runs
    assert capsys.readouterr().err == ""


def test_the_page_says_what_was_measured(results: Path, content: Content) -> None:
    page = (results / "detection.md").read_text("utf-8")
    assert "fgsm-0.02, **which leaves more than 1 %**" in page or "fgsm-0.01, **which leaves more than 1 %**" in page
    assert "| pgd5-0.5 " in page
    assert "![Fig. 4: ROC of log diversity](fig4-digits.png)" in page
    assert ".venv-peers/bin/python -m benchmarks.detectors runs/" in page
    for run in content.runs:
        for figures in run.figures:
            assert str(figures.of("pgd").auc) in page.replace("**", "")


def test_other_detectors_on_the_same_images_stand_in_the_same_table(
    results: Path, content: Content, tmp_path: Path
) -> None:
    run = content.runs[0]
    other = run.figures[0].model_copy(update={"detector": "library: something"})
    beside = Beside(run=run.run, material=run.material, figures=(other,))
    strange = Beside(run=content.runs[1].run, material="of other images", figures=(other,))
    Peers(provenance={}, left_out={"alibi": "not run"}, runs=(beside, strange)).save(tmp_path / "detectors.json")
    write_page(tmp_path, content)
    page = (tmp_path / "detection.md").read_text("utf-8")
    assert page.count("\n| library: something ") == 7  # four tables, false alarms, strange and aimed images
    assert "Left out: alibi, not run." in page
    assert f"benchmarks.detectors runs/{content.runs[1].name} --out" in page


def test_experiments_of_earlier_calls_stay_and_one_that_is_measured_anew_is_replaced(
    experiment: Experiment, run: Run, digits: Dataset, results: Path, content: Content, tmp_path: Path
) -> None:
    elsewhere = content.runs[0].model_copy(update={"run": "0" * 64, "slug": "mnist", "title": "MNIST"})
    Content(provenance={}, runs=(elsewhere, *content.runs)).save(tmp_path / "detection.json")
    longer = train(replace(run.config, epochs=1), tmp_path / "longer", progress=False)
    (other,) = experiments([evaluated(longer, digits)])
    found = write_detection(tmp_path, [other], COUNTS, progress=False)
    assert found.runs[0] == elsewhere
    assert [each.title for each in found.runs[1:]] == ["digits: 3 x cnn, 1 epoch"]
    assert json.loads((tmp_path / "detection.json").read_bytes())["runs"][0]["title"] == "MNIST"


def test_networks_that_were_not_attacked_alike_are_in_tables_of_their_own(content: Content, tmp_path: Path) -> None:
    """Two experiments of one data set, whose titles happen to be the same."""
    first, second = content.runs
    apart = second.model_copy(update={"slug": f"{second.slug}-2"})
    write_page(tmp_path, content)
    assert (tmp_path / "detection.md").read_text("utf-8").count(f"## {first.title}\n") == 1
    write_page(tmp_path, content.model_copy(update={"runs": (first, apart)}))
    page = (tmp_path / "detection.md").read_text("utf-8")
    assert page.count(f"## {first.title}\n") == 2
    assert page.count("fig4-digits.png") == page.count("fig4-digits-2.png") == 1


def test_a_figure_that_was_edited_is_noticed(results: Path, experiment: Experiment, tmp_path: Path) -> None:
    text = (results / "detection.json").read_text("utf-8")
    (tmp_path / "detection.json").write_text(text.replace('"reached": false', '"reached": true', 1), "utf-8")
    with pytest.raises(InputError, match=r"does not match its digest.*remove the file to measure anew"):
        write_detection(tmp_path, [experiment], COUNTS, progress=False)


def test_a_panel_has_a_curve_for_each_attack_with_its_area() -> None:
    rng = np.random.default_rng(0)
    scores = Answers(behind=rng.normal(size=3), clean=rng.normal(size=50), attacked={"fgsm": rng.normal(size=40) - 9},
                     aimed={}, changed={}, strange={})  # fmt: skip
    drawn: Figure = picture({Setting(0, 0): scores, Setting(2, 0.5): scores}, "title")
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["Baseline", "ADP$_{2,\\,0.5}$"]
    legend = drawn.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["FGSM, 40 images, AUC 1.000", "chance"]
