"""Figures from scores, against slow and obvious ones."""

from collections.abc import Mapping

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detector.errors import InputError
from detector.evidence import WORST_CASE
from detector.imageset import ImageSet
from detector.prediction import Floats
from training.detection.figures import Figures, figures
from training.detection.material import Answers, Material
from training.robustness.gate import TARGET

RNG = np.random.default_rng(5)
ROWS: Mapping[str, list[int]] = {"pgd": [3, 5, 7, 8, 9], "cw": [9, 3, 8]}
SUCCESS: Mapping[str, list[bool]] = {"pgd": [True, False, True, True, True], "cw": [True, True, False]}


def image_set(rows: list[int], success: list[bool] | None = None) -> ImageSet:
    return ImageSet(
        images=np.zeros((len(rows), 1, 2, 2), np.float32), source_index=np.array(rows),
        success=None if success is None else np.array(success),
    )  # fmt: skip


@pytest.fixture
def material() -> Material:
    attacked = {name: image_set(rows, SUCCESS[name]) for name, rows in ROWS.items()}
    return Material(behind=image_set(list(range(200))), clean=image_set(list(range(100))), attacked=attacked,
                    aimed={"entropy": image_set([1, 2], [True, True])})  # fmt: skip


@pytest.fixture
def scores() -> Answers[Floats]:
    return Answers(
        behind=RNG.normal(size=200), clean=RNG.normal(size=100),
        attacked={"pgd": np.array([-3.0, -2, 0.5, 1, -1]), "cw": np.array([-2.5, -np.inf, 2])},
        aimed={"entropy": np.array([5.0, 6.0])}, changed={"blur 1": RNG.normal(size=30) - 9},
        strange={"uniform noise": RNG.normal(size=20) + 9},
    )  # fmt: skip


@pytest.fixture
def found(scores: Answers[Floats], material: Material) -> Figures:
    return figures("some", scores, material, fitted_on="nothing", seen=("cw",))


def test_the_threshold_is_chosen_on_clean_calibration_images_alone(found: Figures, scores: Answers[Floats]) -> None:
    assert found.threshold == TARGET.threshold(scores.behind, [])
    assert found.clean.count == (scores.clean < found.threshold).sum()
    assert found.of("pgd").flagged.count == (scores.attacked["pgd"] < found.threshold).sum()


def test_areas_are_scikit_learns(found: Figures, scores: Answers[Floats]) -> None:
    for keep, area in (([True] * 5, found.of("pgd").auc), (SUCCESS["pgd"], found.of("pgd").auc_successful)):
        attacked = scores.attacked["pgd"][np.array(keep)]
        truth = np.repeat([0, 1], [100, len(attacked)])
        assert area is not None
        assert area.value == pytest.approx(roc_auc_score(truth, -np.concatenate([scores.clean, attacked])))


def test_in_the_worst_case_an_image_has_its_least_suspicious_score(found: Figures, scores: Answers[Floats]) -> None:
    """Over the images that every attack was run on: 3, 8 and 9."""
    by_row = {name: dict(zip(ROWS[name], scores.attacked[name], strict=True)) for name in ROWS}
    worst = np.array([max(by_row["pgd"][row], by_row["cw"][row]) for row in (3, 8, 9)])
    figure = found.of(WORST_CASE)
    assert figure.flagged.n == 3
    assert figure.flagged.count == (worst < found.threshold).sum()
    truth = np.repeat([0, 1], [100, 3])
    assert figure.auc.value == pytest.approx(roc_auc_score(truth, -np.concatenate([scores.clean, worst])))


def test_what_nobody_attacked_and_who_aims_at_a_score_stand_apart(found: Figures) -> None:
    assert [each.name for each in found.attacks] == ["pgd", "cw", WORST_CASE]
    assert [(each.name, each.auc.value) for each in found.aimed] == [("entropy", 0.0)]
    assert [(seen.name, seen.flagged.rate) for seen in found.changed] == [("blur 1", 1.0)]
    assert [(seen.name, seen.flagged.rate) for seen in found.strange] == [("uniform noise", 0.0)]
    assert (found.seen, found.fitted_on) == (("cw",), "nothing")


@pytest.mark.parametrize("place", ["behind", "clean"])
def test_a_score_that_is_no_number_is_refused(place: str, scores: Answers[Floats], material: Material) -> None:
    getattr(scores, place)[4] = np.nan
    with pytest.raises(InputError, match="expected numbers, found nan"):
        figures("some", scores, material, fitted_on="nothing")
