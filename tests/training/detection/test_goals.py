"""Goals are counted as missed where they are, and what to try next stands beside them."""

import numpy as np
import pytest

from detector.evidence import WORST_CASE
from detector.rates import Auc
from tests.training.detection.conftest import rate
from training.detection.content import Content, Found
from training.detection.figures import Figures
from training.detection.goals import JUDGED, attack_by_attack, goals, goals_table, mean_area


def auc(value: float) -> Auc:
    return Auc(value=value, low=0.0, high=1.0)


def with_areas(figures: Figures, areas: dict[str, float], successful: float | None = None) -> Figures:
    """The same with other areas under some attacks, the same in both countings unless told."""
    attacks = tuple(
        view.model_copy(update={
            "auc": auc(areas[view.name]), "auc_successful": auc(areas[view.name] if successful is None else successful)
        }) if view.name in areas else view
        for view in figures.attacks
    )  # fmt: skip
    return figures.model_copy(update={"attacks": attacks})


def judged_of(run: Found) -> Figures:
    return next(each for each in run.figures if each.detector == JUDGED)


def with_judged(run: Found, judged: Figures) -> Found:
    return run.model_copy(
        update={"figures": tuple(judged if each.detector == JUDGED else each for each in run.figures)}
    )


@pytest.fixture
def found(content: Content) -> Found:
    """One whose score reaches 0.96 under FGSM, PGD and C&W."""
    first = content.runs[0]
    return with_judged(first, with_areas(judged_of(first), {"fgsm": 0.94, "pgd": 0.97, "cw": 0.97, WORST_CASE: 0.1}))


def peer(run: Found, areas: dict[str, float], seen: tuple[str, ...] = ()) -> Figures:
    return with_areas(judged_of(run), areas).model_copy(update={"detector": "other", "seen": seen})


def test_a_mean_leaves_out_attacks_without_a_successful_image(found: Found) -> None:
    judged = judged_of(found)
    assert mean_area(judged, ["fgsm", "pgd"]) == pytest.approx(0.955)
    none = tuple(
        view.model_copy(update={"auc_successful": None}) if view.name == "pgd" else view for view in judged.attacks
    )
    assert mean_area(judged.model_copy(update={"attacks": none}), ["fgsm", "pgd"], successful=True) == 0.94


def test_the_mean_is_over_the_attacks_and_not_over_their_worst_case(found: Found) -> None:
    every, successful = goals(found, [])[:2]
    assert (every.reached, every.found) == (True, "0.960")
    low = with_areas(judged_of(found), {"fgsm": 0.94, "pgd": 0.97, "cw": 0.97}, successful=0.9)
    every, successful = goals(with_judged(found, low), [])[:2]
    assert (every.reached, successful.reached, str(successful)) == (True, False, "**missed**: 0.900")


@pytest.mark.parametrize(
    ("areas", "seen", "reached", "said"),
    [
        ({"fgsm": 0.9, "pgd": 0.9, "cw": 0.9}, (), True, "the nearest is other 0.900 against 0.960"),
        ({"fgsm": 1.0, "pgd": 1.0, "cw": 1.0}, (), False, "other 1.000 against 0.960"),
        ({"fgsm": 1.0, "pgd": 0.9, "cw": 0.9}, ("fgsm",), True, "the nearest is other 0.900 against 0.970"),
        ({"fgsm": 0.94, "pgd": 0.97, "cw": 0.97}, (), False, "other 0.960 against 0.960"),
    ],
    ids=["ahead", "behind", "what a detector was shown does not count", "a tie is no lead"],
)
def test_ahead_of_others_on_attacks_that_they_were_not_shown(
    found: Found, areas: dict[str, float], seen: tuple[str, ...], reached: bool, said: str
) -> None:
    ahead = goals(found, [peer(found, areas, seen)])[2]
    assert (ahead.reached, ahead.found) == (reached, said)


def test_without_other_detectors_nobody_is_ahead(found: Found) -> None:
    ahead = goals(found, [])[2]
    assert (ahead.reached, str(ahead)) == (None, "no other detector was run")


def test_every_mild_change_counts(found: Found) -> None:
    judged = judged_of(found)
    calm = tuple(seen.model_copy(update={"flagged": rate(0.1)}) for seen in judged.changed)
    spared = goals(with_judged(found, judged.model_copy(update={"changed": calm})), [])[3]
    assert (spared.reached, spared.found) == (True, f"{calm[0].name} 10.0 %")
    loud = (*calm[:-1], calm[-1].model_copy(update={"flagged": rate(0.11)}))
    spared = goals(with_judged(found, judged.model_copy(update={"changed": loud})), [])[3]
    assert (spared.reached, spared.found) == (False, f"{loud[-1].name} 11.0 %")


@pytest.mark.parametrize(
    ("dataset", "area", "passed", "reached"),
    [
        ("cifar10", 0.8, 0.3, True),
        ("cifar10", 0.6, 0.0, False),
        ("cifar10", 0.8, 1.0, False),
        ("mnist", 0.1, 1.0, None),
    ],
    ids=["held", "a small area", "all just above the threshold", "no goal on what is easy"],
)
def test_who_stops_at_the_threshold_is_not_held_by_an_area(
    found: Found, dataset: str, area: float, passed: float, reached: bool | None
) -> None:
    judged = judged_of(found)
    views = tuple(view.model_copy(update={"auc": auc(area if view.name == JUDGED else 0.5)}) for view in judged.aimed)
    attackers = tuple(
        each.model_copy(update={"unnoticed": rate(passed if each.score == JUDGED else 0.5)}) for each in found.aimed
    )
    ours = with_judged(found, judged.model_copy(update={"aimed": views}))
    aware = goals(ours.model_copy(update={"dataset": dataset, "aimed": attackers}), [])[4]
    assert aware.reached is reached
    assert f"AUC {area:.3f}, wrong and not flagged {100 * passed:.1f} %" in aware.found


def test_a_table_says_what_to_try_next_only_where_something_was_missed(found: Found) -> None:
    judged = judged_of(found)
    calm = tuple(seen.model_copy(update={"flagged": rate(0.0)}) for seen in judged.changed)
    kept = with_judged(found, judged.model_copy(update={"changed": calm}))
    kept = with_judged(kept, with_areas(judged_of(kept), {"fgsm": 0.99, "pgd": 0.99, "cw": 0.99}))
    weak = with_judged(kept, with_areas(judged_of(kept), dict.fromkeys(("fgsm", "pgd", "cw"), 0.5)))
    reached = goals_table([kept], ["Ours"], [[]])
    assert "missed" not in reached
    assert "\n- " not in reached
    both = goals_table([kept, weak], ["Ours", "Weak"], [[], []])
    assert both.count("**missed**: 0.500") == 2
    assert both.count("\n- Mean AUC: ") == 1
    assert both.count("docs/scores.md#") == 1


def test_under_each_attack_the_best_of_those_that_did_not_see_it_stands_beside_ours(found: Found) -> None:
    better = peer(found, {"fgsm": 0.95, "pgd": 0.95, "cw": 1.0}, seen=("cw",))
    worse = peer(found, dict.fromkeys(("fgsm", "pgd", "cw"), 0.5)).model_copy(update={"detector": "another"})
    shown = attack_by_attack([found], ["Ours"], [[worse, better]])
    rows = {cells[1].strip(): cells[2:4] for cells in (line.split("|") for line in shown.splitlines()[2:])}
    assert list(rows) == ["FGSM", "PGD", "C&W", WORST_CASE]
    assert ["**" in ours for ours, _ in rows.values()] == [True, False, False, False]
    assert [other.split()[0] for _, other in rows.values()][:3] == ["other", "other", "another"]
    alone = attack_by_attack([found], ["Ours"], [[]])
    assert "**" not in alone
    assert all(line.split("|")[3].strip() == "-" for line in alone.splitlines()[2:])


def test_the_goals_are_of_a_score_that_every_run_has(content: Content) -> None:
    for run in content.runs:
        assert [goal.what for goal in goals(run, [])] == [goal.what for goal in goals(content.runs[0], [])]
        assert np.isfinite(mean_area(judged_of(run), ["fgsm", "pgd", "cw"]))
