"""What the figures say in sentences."""

import pytest

from detector.rates import Auc
from tests.training.detection.conftest import rate
from training.detection.content import Content, Found
from training.detection.findings import few_images, findings

HEADS = ["Baseline", "ADP"]


def auc(low: float, high: float) -> Auc:
    return Auc(value=(low + high) / 2, low=low, high=high)


def with_areas(run: Found, weights: tuple[float, float], areas: list[Auc]) -> Found:
    """A run whose log diversity has these areas under FGSM, PGD, C&W and in the worst case."""
    figures = tuple(
        each.model_copy(
            update={"attacks": tuple(
                view.model_copy(update={"auc": area}) for view, area in zip(each.attacks, areas, strict=True)
            )}
        ) if each.detector == "log_diversity" else each
        for each in run.figures
    )  # fmt: skip
    return run.model_copy(update={"alpha": weights[0], "beta": weights[1], "figures": figures})


@pytest.fixture
def said(content: Content) -> list[str]:
    usual = auc(0.6, 0.7)
    baseline = with_areas(content.runs[0], (0.0, 0.0), [usual] * 4)
    ours = with_areas(content.runs[1], (2.0, 0.5), [auc(0.71, 0.8), auc(0.3, 0.4), auc(0.45, 0.65), auc(0.1, 0.2)])
    firm = ours.aimed[1].model_copy(update={"unnoticed": rate(0.0)})
    rest = [each.model_copy(update={"unnoticed": rate(0.5)}) for each in ours.aimed]
    ours = ours.model_copy(update={"aimed": (rest[0], firm, *rest[2:])})
    return findings([baseline, ours], HEADS).splitlines()


def test_an_ensemble_wins_or_loses_where_intervals_do_not_overlap(said: list[str]) -> None:
    (sentence,) = [each for each in said if "beside our baseline" in each]
    assert sentence.startswith("- ADP ")
    assert "higher under FGSM, and **lower under PGD, the worst case**;" in sentence


def test_attacks_that_look_more_honest_than_clean_images_are_named(said: list[str]) -> None:
    (blind,) = [each for each in said if "more honest than clean ones" in each]
    assert blind.startswith("- ADP: ")
    assert blind.endswith("under PGD, the worst case.")
    assert "- ADP: log diversity is not known to be better than chance under C&W." in said


def test_an_ensemble_that_tells_every_attack_is_said_to(said: list[str]) -> None:
    (sentence,) = [each for each in said if "tells every attack" in each]
    assert sentence.startswith("- Baseline: ")


def test_the_score_that_stands_best_against_who_knows_it_is_named(said: list[str], content: Content) -> None:
    (sentence,) = [each for each in said if each.startswith("- ADP: an attacker")]
    assert (
        f"gets 0.0 % (0.0 to 3.6) of 100 images wrong and not flagged by it, at {content.runs[1].aimed[1].score},"
        in sentence
    )


def chosen_on(run: Found, n: int, right: float) -> Found:
    """A run whose C&W's strength was chosen on so many images, and leaves so many test images right."""
    others, last = run.attacks[:-1], run.attacks[-1]
    many = [each.model_copy(update={"validation": rate(0.0), "right": rate(0.5)}) for each in others]
    few = last.model_copy(update={"validation": rate(0.0, n), "right": rate(right)})
    return run.model_copy(update={"attacks": (*many, few)})


def test_strengths_that_were_chosen_on_few_images_say_what_follows(content: Content) -> None:
    runs = [chosen_on(content.runs[0], 20, 0.1), chosen_on(content.runs[1], 20, 0.01)]
    said = few_images(runs, HEADS)
    assert said.startswith("The strengths of C&W were chosen on 20 validation images")
    assert "at most 17 % are" in said
    assert "Of test images C&W 10.0 % (Baseline) are left right" in said
    assert "Of test images no more than 1 % are left right" in few_images(runs[1:], HEADS[1:])
    assert few_images([chosen_on(run, 100, 0.1) for run in content.runs], HEADS) == ""
