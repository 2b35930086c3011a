"""Verdicts and headlines: no more is claimed than the intervals allow."""

import pytest

from detector.calibration import Calibration
from detector.evidence import AttackEvidence
from detector.page.findings import Finding, Findings, Verdict, about_promise, kept
from detector.rates import Auc, Rate
from detector.scores import score_named
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr, TargetTpr, Youden
from detector.threshold import Threshold
from tests.detector.page.conftest import Made
from training.attacks import PGD, DetectorAware


def rate(low: float, value: float, high: float) -> Rate:
    return Rate(count=round(100 * value), n=100, rate=value, low=low, high=high)


def evidence(
    flagged: Rate, auc: float = 0.9, *, wins: Rate | None = None, auc_wins: float = 0.9, name: str = "attack"
) -> AttackEvidence:
    def around(value: float) -> Auc:
        return Auc(value=value, low=value - 0.05, high=value + 0.05)

    more = {} if wins is None else {"flagged_successful": wins, "auc_successful": around(auc_wins)}
    return AttackEvidence(name=name, auc=around(auc), flagged=flagged, **more)


CAUGHT, HALF, MISSED = rate(0.6, 0.7, 0.8), rate(0.4, 0.55, 0.7), rate(0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (evidence(CAUGHT), Verdict.CAUGHT),
        (evidence(HALF), Verdict.HALF),
        (evidence(MISSED), Verdict.MISSED),
        (evidence(rate(0.5, 0.6, 0.7)), Verdict.HALF),
        (evidence(CAUGHT, auc=0.55), Verdict.LOST),
        (evidence(CAUGHT, wins=MISSED), Verdict.MISSED),
        (evidence(MISSED, wins=CAUGHT), Verdict.CAUGHT),
        (evidence(CAUGHT, wins=CAUGHT, auc_wins=0.4), Verdict.LOST),
        (evidence(CAUGHT, wins=CAUGHT, auc_wins=0.54), Verdict.LOST),
        (evidence(CAUGHT, wins=CAUGHT, auc_wins=0.56), Verdict.CAUGHT),
    ],
    ids=[
        "caught",
        "half",
        "missed",
        "not-surely",
        "chance",
        "harmless-caught",
        "harmless-missed",
        "harmful-hide",
        "perhaps-chance",
        "surely",
    ],
)
def test_a_verdict_needs_the_whole_interval(found: AttackEvidence, verdict: Verdict) -> None:
    assert Finding.of(found).verdict is verdict


def test_what_is_missed_is_what_is_not_flagged() -> None:
    missed = Finding.of(evidence(MISSED)).missed
    assert (missed.count, missed.n) == (80, 100)
    assert (missed.low, missed.rate, missed.high) == pytest.approx((0.7, 0.8, 0.9))


@pytest.mark.parametrize(
    ("flags", "headline"),
    [
        ([], "No attack was tried, so nothing is known of what this detector catches."),
        ([CAUGHT], "The one attack tried is caught more often than missed."),
        ([HALF], "The one attack tried is not caught more often than missed."),
        ([CAUGHT, CAUGHT], "Each of the 2 attacks tried is caught more often than missed."),
        ([CAUGHT, MISSED], "1 of the 2 attacks tried is caught more often than missed."),
        ([CAUGHT, CAUGHT, HALF], "2 of the 3 attacks tried are caught more often than missed."),
        ([HALF, MISSED], "None of the 2 attacks tried is caught more often than missed."),
    ],
    ids=["none", "one", "one-not", "all", "one-of-two", "two-of-three", "none-of-two"],
)
def test_the_headline(flags: list[Rate], headline: str) -> None:
    found = Findings(attacks=[Finding.of(evidence(flagged)) for flagged in flags], worst=None)
    assert found.headline == headline


def test_the_most_missed_attack_comes_first() -> None:
    found = Findings(attacks=[Finding.of(evidence(flagged)) for flagged in (HALF, MISSED, CAUGHT)], worst=None)
    assert [one.flagged for one in found.missed] == [MISSED, HALF, CAUGHT]
    assert found.weakest == found.missed[0]


@pytest.mark.parametrize(
    ("found", "summary"),
    [
        (evidence(MISSED), "80.0 % (70.0 to 90.0) of the images pass unflagged after it."),
        (
            evidence(CAUGHT, wins=MISSED),
            "80.0 % (70.0 to 90.0) of the images that it turns wrong pass unflagged after it.",
        ),
    ],
    ids=["all", "successful"],
)
def test_the_summary_says_of_which_images_it_speaks(found: AttackEvidence, summary: str) -> None:
    assert Findings(attacks=[Finding.of(found)], worst=None).summary.startswith(summary)


@pytest.mark.parametrize(
    ("names", "aware"),
    [
        (["pgd10-0.1"], []),
        (["unaware-pgd10-0.1"], []),
        (["pgd10-0.1", "aware-pgd10-0.1"], ["aware-pgd10-0.1"]),
        (["aware-of-typicality-cw-1"], ["aware-of-typicality-cw-1"]),
    ],
    ids=lambda names: "+".join(names) or "none",
)
def test_whether_an_attacker_knew_the_detector_is_told(names: list[str], aware: list[str]) -> None:
    found = Findings(attacks=[Finding.of(evidence(MISSED, name=name)) for name in names], worst=None)
    assert [one.name for one in found.aware] == aware
    assert ("None that was tried is known to aim at this detector" in found.summary) == (not aware)


def test_the_trainers_attacks_that_know_the_detector_have_such_names() -> None:
    attack = DetectorAware(attack=PGD(eps=0.1), score=score_named("log_diversity"), threshold=Threshold(overall=-1.0))
    assert Finding.of(evidence(MISSED, name=attack.name)).aware


@pytest.mark.parametrize(("tried", "uneven"), [(100, False), (60, True)])
def test_a_worst_case_of_fewer_images_than_there_are(tried: int, uneven: bool) -> None:
    few = MISSED.model_copy(update={"n": tried})
    found = [Finding.of(evidence(flagged)) for flagged in (MISSED, few)]
    assert Findings(attacks=found, worst=Finding.of(evidence(MISSED))).uneven is uneven
    assert not Findings(attacks=found, worst=None).uneven


def test_the_worst_case_is_what_an_attacker_reaches(full: Made) -> None:
    found = Findings.of(full.calibration)
    assert found.worst is not None
    (worst,) = [view for view in full.calibration.views if view.name == "worst case"]
    assert found.worst.flagged == worst.flagged_successful
    assert f"{100 * found.worst.missed.rate:.1f} % (" in found.summary
    assert found.summary.endswith("of the images that one of them turns wrong.")


@pytest.mark.parametrize(
    ("target", "seen", "told"),
    [
        (TargetFpr(0.3), MISSED, "within the 30 % promised"),
        (MeanFpr(0.15), MISSED, "above the 15 % promised, by no more than chance explains"),
        (PerClass(TargetFpr(0.05)), MISSED, "MORE than the 5 % promised, beyond what chance explains"),
        (Youden(), MISSED, "nothing is promised about them"),
    ],
    ids=["within", "chance", "broken", "none"],
)
def test_false_alarms_beside_the_promise(full: Made, target: Target, seen: Rate, told: str) -> None:
    calibration: Calibration = full.calibration.model_copy(update={"target": target, "false_positives": seen})
    assert kept(calibration) == told


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (PerClass(TargetFpr(0.1)), "A promise about honest images alone."),
        (TargetTpr(0.2), "A promise about these attacks as they are, and none about false alarms."),
        (Explicit(-1.0), "Nothing. What is caught, and what is flagged in error, is measured below."),
    ],
    ids=["fpr", "tpr", "none"],
)
def test_what_kind_of_promise_it_is(full: Made, target: Target, told: str) -> None:
    assert about_promise(full.calibration.model_copy(update={"target": target})).startswith(told)
