"""Bold is where ours lose, as the figures are shown."""

import pytest

from detector.rates import Auc
from tests.training.detection.conftest import rate
from training.detection.content import Content
from training.detection.tables import (
    AUC,
    TPR,
    aimed,
    best_in_worst_case,
    cell,
    detectors,
    false_alarms,
    log_diversity,
    strangers,
)


def auc(value: float) -> Auc:
    return Auc(value=value, low=0.1, high=0.9)


@pytest.mark.parametrize(
    ("others", "bold"),
    [([], False), ([None], False), ([auc(0.5001)], False), ([auc(0.2), auc(0.501)], True), ([auc(0.4)], False)],
    ids=["alone", "not known", "the same as shown", "one is better", "none is better"],
)
def test_an_area_is_bold_where_another_is_larger(others: list[Auc | None], bold: bool) -> None:
    assert cell(auc(0.5), others) == ("**0.500** (0.100 to 0.900)" if bold else "0.500 (0.100 to 0.900)")


def test_each_of_several_shares_is_bold_by_itself() -> None:
    assert cell((0.0, 0.1, 0.9), [(0.0, 0.2, 0.8)]) == "0.0 / **10.0** / 90.0"
    assert cell((0.0, 0.5, 0.095), [(1.0, 0.5, 0.1)]) == "**0.0** / 50.0 / **9.5**"
    assert cell(None, [auc(1.0)]) == "-"


def test_other_detectors_turn_ours_bold_and_are_marked_where_they_saw_the_attack(content: Content) -> None:
    run = content.runs[0]
    ours = run.figures[0]
    perfect = ours.model_copy(update={
        "detector": "other", "seen": ("pgd",),
        "attacks": tuple(each.model_copy(update={"auc": auc(2.0), "tpr": (1.0, 1.0, 1.0)}) for each in ours.attacks),
    })  # fmt: skip
    alone, beside = detectors(run, [], AUC), detectors(run, [perfect], AUC)
    assert "**" not in alone
    assert beside.count("**") == 2 * len(run.figures) * len(ours.attacks)
    assert beside.splitlines()[-1].count("\u2020") == 1
    assert beside.splitlines()[-1].startswith("| other ")
    assert detectors(run, [perfect], TPR).splitlines()[-1].count("100.0 / 100.0 / 100.0") == len(ours.attacks)


def test_more_false_alarms_than_another_are_bold(content: Content) -> None:
    run = content.runs[0]
    quiet = run.figures[0].model_copy(update={"detector": "quiet", "clean": rate(0.0)})
    figure = run.figures[-1].model_copy(update={"clean": rate(0.5)})
    loud = run.model_copy(update={"figures": (figure,)})
    assert "| **50.0** % (" in false_alarms(loud, [quiet])
    assert "**50.0**" not in false_alarms(loud, [])


def test_only_a_regularised_ensemble_can_lose_against_the_baseline(content: Content) -> None:
    runs = sorted(content.runs, key=lambda run: run.setting)
    worse = [
        runs[1].model_copy(
            update={"aimed": tuple(each.model_copy(update={"unnoticed": rate(1.0)}) for each in run.aimed)}
        )
        for run in runs[1:]
    ]
    better = runs[0].model_copy(
        update={"aimed": tuple(each.model_copy(update={"unnoticed": rate(0.0)}) for each in runs[0].aimed)}
    )
    heads = ["Baseline", "ADP"]
    assert aimed([better, *worse], heads).count("**100.0**") == len(better.aimed)
    baselines = [run.model_copy(update={"alpha": 0.0, "beta": 0.0}) for run in runs]
    assert "**" not in log_diversity(baselines, heads)


def test_the_best_of_the_worst_case_has_the_largest_area(content: Content) -> None:
    figures = content.runs[0].figures
    name, value = best_in_worst_case(figures)
    assert value == max(each.attacks[-1].auc.value for each in figures)
    assert value == next(each.attacks[-1].auc.value for each in figures if each.detector == name)


def test_strange_images_are_better_flagged_by_another(content: Content) -> None:
    run = content.runs[0]
    ours = run.figures[-1].model_copy(
        update={"strange": tuple(
            seen.model_copy(update={"flagged": rate(0.5), "auc": auc(0.5)}) for seen in run.figures[-1].strange
        )}
    )  # fmt: skip
    first, *rest = ours.strange
    keen = first.model_copy(update={"flagged": rate(0.6), "auc": auc(0.4)})
    other = ours.model_copy(update={"detector": "keen", "strange": (keen, *rest)})
    alone = run.model_copy(update={"figures": (ours,)})
    assert "**" not in strangers(alone, [])
    row, last = strangers(alone, [other]).splitlines()[2:]
    assert row.count("**") == 2
    assert "| **50.0** % (" in row
    assert last.startswith("| keen ")
    assert "**" not in last
