"""Checking a calibration against a twin that judges image by image, and in simulation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.check import Check, check, origin_of
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.imageset import ImageSet
from detector.keeping import Finding, Keeping
from detector.movement import Movement
from detector.rates import Auc, Rate
from detector.scorefile import Scores
from detector.shifts import MILD, SHIFTS
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr, TargetTpr, Youden
from detector.unfinished import folder_of
from tests.conftest import CLASSES, make_images

RATE = 0.2
"""Promised by the bundle `calibrated`."""


def judged(bundle: Bundle, images: Any) -> tuple[Any, Any, Any]:
    """Scores, classes and flags, one image at a time."""
    detector = Detector(bundle, device="cpu", threads=1)
    rows: list[Any] = [detector.classify(images[n : n + 1]) for n in range(len(images))]
    scores, classes, flags = ([getattr(row, name) for row in rows] for name in ("score", "labels", "adversarial"))
    return np.concatenate(scores), np.concatenate(classes), np.concatenate(flags)


def run(bundle: Bundle, clean: Any, **options: Any) -> Check:
    return check(bundle.path, clean=clean, device="cpu", **options)


def dark(count: int, seed: int = 1) -> Any:
    """Images so dark that the members hardly tell classes apart: nothing like those of the calibration."""
    return make_images(count, seed) * np.float32(0.05)


def test_against_the_twin(calibrated: Bundle) -> None:
    clean, attacked, other = make_images(150, seed=5), make_images(60, seed=6) ** 2, dark(40)
    labels = np.arange(150) % CLASSES
    found = run(
        calibrated,
        ImageSet(images=clean, labels=labels),
        adversarial={"square": ImageSet(images=attacked)},
        foreign={"dark": ImageSet(images=other)},
    )
    scores, classes, flags = judged(calibrated, clean)
    calibration = calibrated.calibration
    assert calibration is not None
    assert found.keepings == (Keeping.of("clean flagged", flags, RATE, 0.05),)
    assert found.finding is found.keepings[0].finding
    assert found.promised
    assert found.flagged == Rate.of(flags)
    assert found.then == calibration.false_positives
    expected = Movement.of(np.array(calibration.clean_scores), scores)
    assert found.movement.p_value == pytest.approx(expected.p_value, rel=1e-6)
    assert found.accuracy == Rate.of(classes == labels)
    for seen, images in ((found.attacks[0], attacked), (found.foreign[0], other)):
        others, _, flagged = judged(calibrated, images)
        assert seen.flagged == Rate.of(flagged)
        assert seen.auc == Auc.of(scores, others)
        assert seen.then is None
    assert (found.attacks[0].name, found.foreign[0].name) == ("square", "dark")
    assert (found.bundle_digest, found.calibration_digest) == (calibrated.digest, calibration.digest)


def test_images_like_those_of_the_calibration(calibrated: Bundle) -> None:
    found = run(calibrated, ImageSet(images=make_images(400, seed=11)))
    assert not found.broken
    assert not found.movement.moved
    assert found.accuracy is None


def test_other_images_break_the_promise_and_move_the_scores(calibrated: Bundle) -> None:
    found = run(calibrated, ImageSet(images=dark(400)))
    assert found.broken
    assert found.finding is Finding.BROKEN
    assert found.movement.moved


def test_promises_are_called_broken_in_at_most_delta_of_checks() -> None:
    """The whole road: n scores choose the threshold, others are checked against it; and with scores that have moved."""
    generator = np.random.default_rng(0)
    broken = dict.fromkeys((0.0, -1.0), 0)
    target, trials = TargetFpr(0.1, 0.1), 400
    for _ in range(trials):
        threshold = target.threshold(generator.normal(size=200), [])
        for shift in broken:
            wrong = generator.normal(shift, size=150) < threshold
            broken[shift] += Keeping.of("clean flagged", wrong, target.rate, 0.05).finding is Finding.BROKEN
    assert broken[0.0] / trials <= 0.05
    assert broken[-1.0] / trials >= 0.95


def test_scores_alone_say_the_same(calibrated: Bundle) -> None:
    images = make_images(150, seed=5)
    scores, _, _ = judged(calibrated, images)
    found = check(calibrated.path, clean=Scores(values=scores))
    expected = run(calibrated, ImageSet(images=images))
    assert found.keepings == expected.keepings
    assert found.movement.statistic == pytest.approx(expected.movement.statistic)


def test_minus_infinity_is_flagged(calibrated: Bundle) -> None:
    found = check(calibrated.path, clean=Scores(values=np.full(50, -math.inf)))
    assert found.flagged.count == 50
    assert found.broken


def test_one_image_is_too_few(calibrated: Bundle) -> None:
    calibration = calibrated.calibration
    assert calibration is not None
    assert calibration.threshold is not None
    found = check(calibrated.path, clean=Scores(values=np.array([calibration.threshold])))
    assert (found.finding, found.flagged.count) == (Finding.TOO_FEW, 0)
    assert found.keepings[0].enough == 60
    below = check(calibrated.path, clean=Scores(values=np.array([calibration.threshold - 1])))
    assert (below.finding, below.flagged.count) == (Finding.TOO_FEW, 1)


@pytest.mark.parametrize("known_by", ["index", "pixels"])
def test_of_images_of_one_source_one_counts(calibrated: Bundle, known_by: str) -> None:
    images = np.concatenate([make_images(30, seed=5)] * 3)
    index = np.tile(np.arange(30), 3) if known_by == "index" else None
    found = run(calibrated, ImageSet(images=images, source_index=index, labels=np.zeros(90, int)))
    assert (found.repeats, found.flagged.n, found.movement.now) == (60, 30, 30)
    assert found.accuracy is not None
    assert found.accuracy.n == 30
    assert found.keepings == run(calibrated, ImageSet(images=images[:30])).keepings


@pytest.mark.parametrize("target", [MeanFpr(0.2), Youden(), Explicit(-1.0), TargetTpr(0.5)], ids=str)
def test_where_nothing_is_promised_the_measured_share_is_compared(bundle: Bundle, target: Target) -> None:
    attacked = ImageSet(images=dark(1200), source_index=np.arange(1200))
    clean = ImageSet(images=make_images(1200), source_index=np.arange(1200))
    calibration = calibrate(bundle.path, clean=clean, adversarial={"dark": attacked}, target=target, device="cpu")
    found = run(bundle, ImageSet(images=make_images(100, seed=8)))
    assert not found.promised
    (keeping,) = found.keepings
    assert keeping.bound == calibration.false_positives.high
    assert keeping.subject == "clean flagged"


def test_a_promised_detection_is_checked_on_attacks(bundle: Bundle) -> None:
    attacked = ImageSet(images=dark(1200), source_index=np.arange(1200))
    clean = ImageSet(images=make_images(1200), source_index=np.arange(1200))
    calibrate(bundle.path, clean=clean, adversarial={"dark": attacked}, target=TargetTpr(0.8), device="cpu")
    today = ImageSet(images=make_images(100, seed=8))
    attacks = {"dark": ImageSet(images=dark(300, seed=9)), "new": ImageSet(images=make_images(300, seed=9))}
    found = run(bundle, today, adversarial=attacks)
    assert found.promised
    told, new = found.keepings
    assert [(one.subject, one.delta, round(one.bound, 9)) for one in (told, new)] == [
        ("dark missed", 0.025, 0.2),
        ("new missed", 0.025, 0.2),
    ]
    assert told.share.count == 300 - found.attacks[0].flagged.count
    assert told.finding is not Finding.BROKEN
    assert (new.finding, found.finding) == (Finding.BROKEN, Finding.BROKEN)
    assert found.attacks[0].then is not None
    assert found.attacks[1].then is None


def test_a_promise_to_each_class(bundle: Bundle) -> None:
    sparse = [np.floor(make_images(count, seed) + np.float32(0.1)) for count, seed in ((4000, 0), (200, 4))]
    calibrate(bundle.path, clean=ImageSet(images=sparse[0]), target=PerClass(TargetFpr(0.3)), device="cpu")
    opened = Bundle.open(bundle.path)
    images = sparse[1]
    found = run(opened, ImageSet(images=images))
    _, classes, flags = judged(opened, images)
    assert found.promised
    assert found.keepings == tuple(
        Keeping.of(f"class {label} flagged", flags[classes == label], 0.3, 0.05 / CLASSES)
        for label in np.unique(classes)
    )
    with pytest.raises(InputError, match=r"scores: expected the predicted class of each, .*, found none"):
        check(bundle.path, clean=Scores(values=np.zeros(3)))
    scores, _, _ = judged(opened, images)
    alone = check(bundle.path, clean=Scores(values=scores, classes=classes))
    assert alone.keepings == found.keepings
    with pytest.raises(InputError, match="scores: expected classes below 10, found 12"):
        check(bundle.path, clean=Scores(values=np.zeros(1), classes=np.array([12])))


def test_mild_changes(calibrated: Bundle) -> None:
    images = make_images(30, seed=5)
    found = run(calibrated, ImageSet(images=images), shifts=True)
    assert [seen.name for seen in found.changed] == [shift.name for shift in SHIFTS]
    assert all(seen.flagged.n == 30 for seen in found.changed)
    darker = found.changed[3]
    changed = np.stack([SHIFTS[3].apply(image, number) for number, image in enumerate(images)])
    assert darker.flagged == Rate.of(judged(calibrated, changed)[2])


def spared(bundle: Bundle, target: Target, share: float) -> Bundle:
    """Calibrated with a promise about mild changes, of which it reports too."""
    clean = ImageSet(images=(make_images(600, seed=3) ** 4).astype(np.float32))
    calibrate(bundle.path, clean=clean, target=target, score="energy", device="cpu", changed_fpr=share, shifts=True)
    return Bundle.open(bundle.path)


def test_a_promise_about_mild_changes_is_checked(bundle: Bundle) -> None:
    spared(bundle, TargetFpr(RATE), 0.2)
    images = (make_images(300, seed=9) ** 4).astype(np.float32)
    doubled = ImageSet(images=np.repeat(images, 2, axis=0))
    found = run(bundle, doubled, shifts=True)
    first, *others = found.keepings
    assert (first.subject, first.bound) == ("clean flagged", RATE)
    assert [one.subject for one in others] == [f"after {shift.name} flagged" for shift in MILD]
    flagged = {seen.name: seen.flagged for seen in found.changed}
    assert [one.share for one in others] == [flagged[shift.name] for shift in MILD]
    assert {one.bound for one in others} == {0.2}
    assert {one.delta for one in found.keepings} == {0.05 / 6}
    assert {one.share.n for one in found.keepings} == {300}  # one of each source
    assert not found.broken
    (alone,) = run(bundle, doubled).keepings
    assert alone.delta == 0.05


def test_a_broken_promise_about_mild_changes_is_broken(bundle: Bundle) -> None:
    """Clean images are as they were, and one kind of changed ones is flagged far too often."""
    calibration = spared(bundle, TargetFpr(RATE), 0.2).calibration
    assert calibration is not None
    calibration.model_copy(update={"changed_fpr": 0.01}).save(bundle.path / "calibration.json")
    images = ImageSet(images=(make_images(300, seed=9) ** 4).astype(np.float32))
    assert not run(bundle, images).broken
    found = run(bundle, images, shifts=True)
    assert found.broken
    assert found.keepings[0].finding is not Finding.BROKEN
    assert "broken" in [one.finding for one in found.keepings[1:]]


def test_mild_changes_that_are_spared_on_average_are_compared_with_what_was_measured(bundle: Bundle) -> None:
    calibration = spared(bundle, MeanFpr(RATE), 0.2).calibration
    assert calibration is not None
    high = {seen.name: seen.flagged.high for seen in calibration.changed}
    found = run(bundle, ImageSet(images=(make_images(300, seed=9) ** 4).astype(np.float32)), shifts=True)
    assert not found.promised
    expected = [calibration.false_positives.high, *(high[shift.name] for shift in MILD)]
    assert [one.bound for one in found.keepings] == expected


def test_live_scores_are_no_clean_ones(calibrated: Bundle) -> None:
    attacked = {"square": ImageSet(images=make_images(20) ** 2)}
    live = Scores(values=np.linspace(-3, 0, 50), live=True)
    found = check(calibrated.path, clean=live, adversarial=attacked, device="cpu")
    assert found.live
    assert found.attacks[0].auc is None


def test_scores_are_saved_and_read_again(calibrated: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "today.npz"
    images = ImageSet(images=make_images(70, seed=5))
    first = run(calibrated, images, save_scores=path)
    assert not folder_of(path).exists()
    scores = Scores.load(path, origin_of(calibrated))
    assert scores.told
    again = check(calibrated.path, clean=scores)
    assert (again.keepings, again.movement) == (first.keepings, first.movement)


def test_unfinished_scores_go_on_for_the_same_work_only(
    calibrated: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, images = tmp_path / "today.npz", ImageSet(images=make_images(70, seed=5))
    with monkeypatch.context() as patch:
        patch.setattr(Scores, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(calibrated, images, save_scores=path, work={"sha256": "a"})
    assert folder_of(path).exists()
    with pytest.raises(InputError, match=r"today\.npz\.unfinished: expected what the same command left unfinished"):
        run(calibrated, images, save_scores=path, work={"sha256": "b"})
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "judge", lambda *_: pytest.fail("judged again"))
        patch.setattr("detector.probes.Probes.check", lambda *_: None)
        run(calibrated, images, save_scores=path, work={"sha256": "a"})
    assert path.exists()
    assert not folder_of(path).exists()


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"delta": 0.0}, InputError, "delta: expected a number between 0 and 1, found 0"),
        ({"shifts": True}, InputError, "shifts: expected images to change, found scores alone"),
    ],
)
def test_refusals(calibrated: Bundle, options: dict[str, Any], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        check(calibrated.path, clean=Scores(values=np.zeros(3)), **options)


def test_labels_that_are_no_classes_are_refused(calibrated: Bundle) -> None:
    images = ImageSet(images=make_images(3), labels=np.array([0, 1, 99]))
    with pytest.raises(InputError, match="clean: labels: expected 0 to 9, found 99 at image 2"):
        run(calibrated, images)


def test_without_a_calibration(bundle: Bundle) -> None:
    with pytest.raises(CalibrationError, match="expected a calibrated bundle, found one without; ledgate calibrate"):
        run(bundle, ImageSet(images=make_images(3)))
