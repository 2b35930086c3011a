"""Scores that are all moved by as much are the same scores: nothing may depend on where their zero is."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.keeping import Keeping
from detector.movement import Movement
from detector.prediction import Floats
from detector.rates import Auc, curve, tpr_at
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr, TargetTpr, Youden
from detector.threshold import Threshold

BY: float = -1000.0
CLASSES = 3
TARGETS: list[Target] = [
    *(TargetFpr(0.1), MeanFpr(0.1), TargetTpr(0.8), Youden()),
    *(PerClass(TargetFpr(0.1, 0.5)), PerClass(MeanFpr(0.1)), PerClass(TargetTpr(0.8, 0.5)), PerClass(Youden())),
]


def drawn(seed: int, mean: float, count: int = 600) -> tuple[Floats, NDArray[np.int64]]:
    """Scores and classes; on a grid, so that none of them is rounded where it is moved, and with ties."""
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(mean, 1, count) * 64) / 64, rng.integers(CLASSES, size=count)


@pytest.fixture(params=[False, True], ids=["finite", "some infinite"])
def scores(request: pytest.FixtureRequest) -> dict[str, tuple[Floats, NDArray[np.int64]]]:
    found = {"clean": drawn(0, 0.0), "one": drawn(1, -1.5), "two": drawn(2, 0.3), "today": drawn(3, -0.2, 300)}
    if request.param:
        for values, _ in found.values():
            values[:5] = -np.inf
    return found


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_same_images_are_flagged(scores: dict[str, tuple[Floats, NDArray[np.int64]]], target: Target) -> None:
    found = []
    for by in (0.0, BY):
        moved = {name: (values + by, classes) for name, (values, classes) in scores.items()}
        attacked = {name: moved[name] for name in ("one", "two")}
        threshold = Threshold.choose(target, moved["clean"], attacked, ("a", "b", "c"))
        found.append((threshold, [threshold.flags(*one).tolist() for one in moved.values()]))
    (one, flags), (two, same) = found
    assert flags == same
    labels = np.arange(CLASSES)
    np.testing.assert_allclose(two.limits(labels), one.limits(labels) + BY, rtol=0, atol=1e-9)
    if "Fpr" in str(target):  # the others lie a hair above a score, and hairs are longer further from 0
        np.testing.assert_array_equal(two.limits(labels), one.limits(labels) + BY)


def test_an_explicit_threshold_moves_with_them(scores: dict[str, tuple[Floats, NDArray[np.int64]]]) -> None:
    values, classes = scores["clean"]
    one, two = (Threshold.choose(Explicit(-1.0 + by), (values, classes), {}, ()) for by in (0.0, BY))
    np.testing.assert_array_equal(one.flags(values, classes), two.flags(values + BY, classes))


def test_areas_and_curves(scores: dict[str, tuple[Floats, NDArray[np.int64]]]) -> None:
    clean, attacked = scores["clean"][0], scores["one"][0]
    assert Auc.of(clean + BY, attacked + BY) == Auc.of(clean, attacked)
    np.testing.assert_array_equal(curve(clean + BY, attacked + BY), curve(clean, attacked))
    assert tpr_at(clean + BY, attacked + BY, 0.05) == tpr_at(clean, attacked, 0.05)


def test_what_a_check_finds(scores: dict[str, tuple[Floats, NDArray[np.int64]]]) -> None:
    then, now = scores["clean"][0], scores["today"][0]
    assert Movement.of(then + BY, now + BY) == Movement.of(then, now)
    kept = [Keeping.of("clean flagged", now + by < -1.5 + by, 0.1, 0.05) for by in (0.0, BY)]
    assert kept[0] == kept[1]


def test_p_values(calibrated: Bundle, scores: dict[str, tuple[Floats, NDArray[np.int64]]]) -> None:
    values, classes = scores["today"]
    calibration = calibrated.calibration
    assert calibration is not None
    found = []
    for by in (0.0, BY):
        clean = tuple(np.sort(scores["clean"][0] + by).tolist())
        found.append(calibration.model_copy(update={"clean_scores": clean}).p_values(values + by, classes))
    np.testing.assert_array_equal(found[0], found[1])
    assert len(set(found[0].tolist())) > 10
