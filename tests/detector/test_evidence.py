"""The views of the attacks, counted by hand; and the score that the evidence recommends."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.evidence import FPRS, TOGETHER, WORST_CASE, Detection, Judged, ScoreEvidence, ScoreRow, Views
from detector.rates import Auc, Rate
from detector.recommendation import recommend, undetected

Floats = NDArray[np.float64]
CLEAN = np.arange(1000.0)


def judged(scores: list[float], sources: list[int], success: list[bool] | None = None, limit: float = 0.0) -> Judged:
    array = np.array(scores)
    wins = None if success is None else np.array(success)
    return Judged(scores=array, flags=array < limit, success=wins, sources=sources)


ONE = judged([-5.0, -5.0, 5.0, 5.0], [1, 2, 3, 4], [True, True, False, False])
TWO = judged([-3.0, 3.0, -3.0, 3.0], [2, 1, 3, 4], [True, True, True, False])


def test_a_single_attack_has_no_views() -> None:
    assert [row.name for row in Views.of({"one": ONE}).attacks(CLEAN)] == ["one"]


def test_together_and_the_worst_case() -> None:
    rows = {row.name: row for row in Views.of({"one": ONE, "two": TWO}).attacks(CLEAN)}
    assert list(rows) == ["one", "two", TOGETHER, WORST_CASE]
    assert rows["one"].flagged == Rate.of(np.array([True, True, False, False]))
    together = rows[TOGETHER]
    assert (together.flagged.count, together.flagged.n) == (4, 8)
    assert together.auc == Auc.of(CLEAN, np.concatenate([ONE.scores, TWO.scores]))
    assert together.flagged_successful is not None
    assert (together.flagged_successful.count, together.flagged_successful.n) == (4, 5)


def test_in_the_worst_case_every_attack_on_a_source_has_to_be_caught() -> None:
    """Source 2 is caught twice; 1 and 3 slip through once, 4 twice. The only attack that won on 3 is caught."""
    worst = {row.name: row for row in Views.of({"one": ONE, "two": TWO}).attacks(CLEAN)}[WORST_CASE]
    assert (worst.flagged.count, worst.flagged.n) == (1, 4)
    assert worst.auc == Auc.of(CLEAN, np.array([3.0, -3.0, 5.0, 5.0]))
    assert worst.flagged_successful is not None
    assert (worst.flagged_successful.count, worst.flagged_successful.n) == (2, 3)
    assert worst.auc_successful == Auc.of(CLEAN, np.array([3.0, -3.0, -3.0]))


def test_success_unknown_of_one_attack_is_unknown_of_all() -> None:
    rows = {row.name: row for row in Views.of({"one": ONE, "two": judged([1.0], [1])}).attacks(CLEAN)}
    assert rows["one"].flagged_successful is not None
    assert rows["two"].flagged_successful is None
    assert rows[TOGETHER].flagged_successful is rows[WORST_CASE].flagged_successful is None


def test_flags_by_class_count_and_not_one_threshold() -> None:
    """With a threshold for each class the flags are what they are."""
    own = Judged(scores=np.array([1.0, 9.0]), flags=np.array([False, True]), success=None, sources=[7, 7])
    assert own.worst().flags.tolist() == [False]
    assert own.worst().scores.tolist() == [9.0]


def test_detection_at_small_shares() -> None:
    """Of 1,000 clean images 1, 10 and 50 may be flagged."""
    attacked = np.array([-np.inf, -1.0, 0.5, 1.0, 5.0, 9.99, 10.0, 49.5, 50.0, np.inf])
    found = Detection.of(CLEAN, attacked)
    assert FPRS == (0.001, 0.01, 0.05)
    assert found.tpr == (0.3, 0.6, 0.8)
    assert found.n == 10


@pytest.mark.parametrize("attacked", [np.full(5, -np.inf), np.full(5, np.inf)])
def test_infinite_scores_are_ranked(attacked: Floats) -> None:
    found = Detection.of(np.concatenate([CLEAN, [-np.inf, np.inf]]), attacked)
    assert found.auc.value == pytest.approx(0.9995 if attacked[0] < 0 else 0.0005, abs=1e-4)
    assert found.tpr == ((1.0, 1.0, 1.0) if attacked[0] < 0 else (0.0, 0.0, 0.0))


@pytest.fixture
def on_diversity(calibrated: Bundle) -> Calibration:
    assert calibrated.calibration is not None
    return calibrated.calibration


def evidence(score: str, **areas: float) -> ScoreEvidence:
    rows = tuple(
        ScoreRow(name=name, every=Detection(n=9, auc=Auc(value=v, low=v - 0.05, high=v + 0.05), tpr=(0.0, 0.0, 0.0)))
        for name, v in areas.items()
    )
    return ScoreEvidence(score=score, rows=rows)


def with_evidence(calibration: Calibration, *table: ScoreEvidence) -> Calibration:
    """A calibration on log diversity with that comparison."""
    own = next(entry for entry in table if entry.score == "log_diversity")
    attacks = Views.of({row.name: ONE for row in own.rows}).attacks(CLEAN)[: len(own.rows)]
    attacks = tuple(a.model_copy(update={"auc": row.every.auc}) for a, row in zip(attacks, own.rows, strict=True))
    return calibration.model_copy(update={"comparison": table, "attacks": attacks})


def test_the_best_on_its_weakest_attack_is_recommended(on_diversity: Calibration) -> None:
    """Not the best on average."""
    found = recommend(with_evidence(
        on_diversity, evidence("log_diversity", fgsm=0.99, pgd=0.6), evidence("typicality", fgsm=0.8, pgd=0.8)
    ))  # fmt: skip
    assert found is not None
    assert found.score == "typicality"
    assert "Of the 2 attacks here typicality detects fgsm worst, with an AUC of 0.800" in found.reason
    assert "The calibrated score is weaker: log_diversity detects pgd worst" in found.reason
    assert "typicality is fitted on clean images only: no attack was seen in fitting." in found.reason
    assert "its figures flatter" in found.reason


def test_what_chance_can_do_is_no_reason_to_change(on_diversity: Calibration) -> None:
    found = recommend(with_evidence(on_diversity, evidence("log_diversity", pgd=0.80), evidence("entropy", pgd=0.84)))
    assert found is not None
    assert found.score == "log_diversity"
    assert "entropy has 0.840, within what chance does." in found.reason
    assert "Nothing is fitted: no attack was seen in fitting." in found.reason
    assert "flatter" not in found.reason


def test_where_nothing_helps_that_is_said(on_diversity: Calibration) -> None:
    found = recommend(with_evidence(on_diversity, evidence("log_diversity", pgd=0.2), evidence("entropy", pgd=0.4)))
    assert found is not None
    assert "That is no better than chance: no score here detects every attack." in found.reason


def test_without_attacks_nothing_is_recommended(on_diversity: Calibration) -> None:
    assert recommend(on_diversity) is None
    assert undetected(on_diversity) == ""


def test_a_warning_of_what_is_not_detected(on_diversity: Calibration) -> None:
    some = with_evidence(on_diversity, evidence("log_diversity", fgsm=0.9, pgd=0.17, cw=0.54))
    assert undetected(some).startswith(
        "not detected better than chance by log_diversity: pgd (AUC 0.170), cw (AUC 0.540). Below an AUC of 0.5"
    )
    assert undetected(with_evidence(on_diversity, evidence("log_diversity", pgd=0.17))).startswith(
        "NO ATTACK IS DETECTED"
    )
    assert undetected(with_evidence(on_diversity, evidence("log_diversity", fgsm=0.9))) == ""
