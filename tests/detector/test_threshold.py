"""One threshold for all, or one for each predicted class."""

import numpy as np
import pytest

from detector.errors import CalibrationError, InputError
from detector.targets import Explicit, MeanFpr, PerClass, TargetFpr, TargetTpr, Youden
from detector.threshold import Threshold

NAMES = ("cat", "dog", "owl")


def test_flagged_strictly_below() -> None:
    scores, labels = np.array([-2.0, -1.0, 0.0, -np.inf]), np.array([0, 1, 2, 0])
    assert Threshold(overall=-1.0).flags(scores, labels).tolist() == [True, False, False, True]
    assert Threshold(overall=-np.inf).flags(scores, labels).tolist() == [False] * 4


def test_each_class_by_its_own() -> None:
    threshold = Threshold(by_class=(-1.0, 0.0, 1.0))
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert threshold.limits(labels).tolist() == [-1.0, 0.0, 1.0] * 2
    scores = np.array([-1.0, -1.0, -1.0, -1.5, 0.0, 1.0])
    assert threshold.flags(scores, labels).tolist() == [False, True, True, True, False, False]


def test_texts() -> None:
    assert str(Threshold(overall=-0.123456789)) == f"{Threshold(overall=-0.123456789)}" == "-0.123457"
    assert f"{Threshold(by_class=(-1.0, 0.5)):.2f}" == "-1.00 to 0.50 by class"


def test_chosen_from_each_classs_own_images() -> None:
    generator = np.random.default_rng(0)
    scores, classes = generator.normal(size=900), generator.integers(3, size=900)
    scores += 10 * classes
    found = Threshold.choose(PerClass(TargetFpr(0.1)), (scores, classes), {}, NAMES)
    shared = TargetFpr(0.1, 0.05 / 3)
    assert found.by_class == tuple(shared.threshold(scores[classes == label], []) for label in range(3))
    assert found.overall is None
    assert Threshold.choose(TargetFpr(0.1), (scores, classes), {}, NAMES).overall == TargetFpr(0.1).threshold(
        scores, []
    )


def test_chosen_from_the_attacks_of_each_class() -> None:
    generator = np.random.default_rng(1)
    classes = np.arange(600) % 3
    clean, attacked = generator.normal(size=600), generator.normal(-1, size=600) - classes
    target = PerClass(TargetTpr(0.8))
    found = Threshold.choose(target, (clean, classes), {"one": (attacked, classes), "two": (clean, classes)}, NAMES)
    share = TargetTpr(0.8, 0.05 / 3)
    assert found.by_class is not None
    for label, value in enumerate(found.by_class):
        own = classes == label
        assert value == share.threshold(clean[own], [attacked[own], clean[own]])


def test_a_class_with_too_few_is_named_with_the_number_it_takes() -> None:
    classes = np.repeat([0, 1, 2], [100, 100, 80])
    message = (
        r"class 2 \(owl\): TargetFpr\(0.05, delta=0.0166667\): expected at least 80 clean images in the threshold "
        "part, found 79"
    )
    Threshold.choose(PerClass(TargetFpr(0.05)), (np.arange(280.0), classes), {}, NAMES)
    with pytest.raises(CalibrationError, match=message):
        Threshold.choose(PerClass(TargetFpr(0.05)), (np.arange(279.0), classes[:-1]), {}, NAMES)
    attacks = {"pgd": (np.zeros(3), np.zeros(3, dtype=np.int64))}
    with pytest.raises(CalibrationError, match=r"class 1 \(dog\): Youden\(\): expected clean and attacked images"):
        Threshold.choose(PerClass(Youden()), (np.arange(280.0), classes), attacks, NAMES)


def test_an_average_has_no_delta_to_share() -> None:
    classes = np.repeat([0, 1, 2], 50)
    scores = np.arange(150.0)
    found = Threshold.choose(PerClass(MeanFpr(0.1)), (scores, classes), {}, NAMES)
    assert found.by_class == tuple(MeanFpr(0.1).threshold(scores[classes == label], []) for label in range(3))


@pytest.mark.parametrize("inner", [Explicit(0.0), PerClass(TargetFpr(0.1))])
def test_what_makes_no_sense_by_class_is_refused(inner: object) -> None:
    with pytest.raises(InputError, match="per class: expected TargetFpr, MeanFpr, TargetTpr or Youden, found "):
        PerClass(inner)  # type: ignore[arg-type]
