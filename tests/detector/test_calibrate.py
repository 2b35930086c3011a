"""Calibrating against a twin that scores and counts image by image; and what must not leak from part to part."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle, write_bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.confidence import Confidence, recalibrate
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.imageset import ImageSet
from detector.outputs import Outputs
from detector.parts import Sources, draw
from detector.rates import Auc, Rate
from detector.scores import SCORES
from detector.shipped import shipped_bundle
from detector.targets import Explicit, PerClass, Target, TargetFpr, TargetTpr
from tests.conftest import CLASSES, MEMBERS, linear_weights, make_images, make_model

TARGET = TargetFpr(0.2)


def scores_of(bundle: Bundle, images: NDArray[Any]) -> NDArray[np.float64]:
    """The twin's scores: one image at a time, without chunks and parts."""
    detector = Detector(Bundle.open(bundle.path, calibrated=False), device="cpu", threads=1)
    verdicts = [detector.judge(detector.logits(images[n : n + 1])) for n in range(len(images))]
    return np.array([one.score[0] for one in verdicts if one.score is not None])


def behind(bundle: Bundle, clean: ImageSet, calibration: Calibration) -> NDArray[np.bool_]:
    """Which clean images chose the threshold, told from the scores that the calibration lists."""
    chosen = np.array(calibration.clean_scores)
    mask = np.isclose(scores_of(bundle, clean.images)[:, None], chosen, rtol=1e-7, atol=0).any(axis=1)
    assert mask.sum() == len(chosen)
    return np.asarray(mask)


def attack(clean: ImageSet, seed: int, *, rows: Sequence[int] | None = None, **known: Any) -> ImageSet:
    """Clean images with noise on them."""
    chosen = np.arange(len(clean)) if rows is None else np.array(rows)
    noise = np.random.default_rng(seed).normal(size=clean.images[chosen].shape).astype(np.float32)
    images = np.clip(clean.images[chosen] + noise * 0.2, 0, 1).astype(np.float32)
    index = None if clean.source_index is None else clean.source_index[chosen]
    return ImageSet(images=images, source_index=index, **known)


def run(bundle: Bundle, clean: ImageSet, adversarial: Any = (), target: Target = TARGET, **options: Any) -> Calibration:
    return calibrate(bundle.path, clean=clean, adversarial=adversarial, target=target, device="cpu", **options)


@pytest.fixture
def clean() -> ImageSet:
    generator = np.random.default_rng(0)
    return ImageSet(images=make_images(200), labels=generator.integers(CLASSES, size=200), source_index=np.arange(200))


def test_the_report_against_the_twin(bundle: Bundle, clean: ImageSet) -> None:
    generator = np.random.default_rng(1)
    attacked = attack(clean, 1, success=generator.random(200) < 0.3)
    calibration = run(bundle, clean, {"noise": attacked})
    mask = behind(bundle, clean, calibration)
    assert mask.sum() == 100
    clean_scores, attacked_scores = scores_of(bundle, clean.images), scores_of(bundle, attacked.images)
    assert calibration.threshold == pytest.approx(TARGET.threshold(clean_scores[mask], []), rel=1e-7)
    assert calibration.threshold in calibration.clean_scores
    assert list(calibration.clean_scores) == sorted(calibration.clean_scores)

    threshold = calibration.threshold
    assert calibration.false_positives == Rate.of(clean_scores[~mask] < threshold)
    assert 0 < calibration.false_positives.count < 100
    predicted = Detector(bundle, device="cpu", threads=1).classify(clean.images).labels
    assert calibration.accuracy == Rate.of((predicted == clean.labels)[~mask])
    evidence = calibration.attacks[0]
    assert evidence.name == "noise"
    assert evidence.flagged == Rate.of(attacked_scores[~mask] < threshold)
    assert evidence.auc == Auc.of(clean_scores[~mask], attacked_scores[~mask])
    assert attacked.success is not None
    wins = ~mask & attacked.success
    assert evidence.flagged_successful == Rate.of(attacked_scores[wins] < threshold)
    assert evidence.auc_successful == Auc.of(clean_scores[~mask], attacked_scores[wins])


def test_what_is_written_is_what_is_returned(bundle: Bundle, clean: ImageSet) -> None:
    attacked = attack(clean, 1)
    calibration = run(bundle, clean, {"noise": attacked}, notes={"clean": "clean.npz"})
    assert Calibration.load(bundle.path / "calibration.json") == calibration
    opened = Bundle.open(bundle.path)
    assert opened.calibration == calibration
    assert opened.probes is not None
    assert calibration.members_digest == bundle.members_digest
    assert calibration.target == TARGET
    assert (calibration.report_fraction, calibration.seed, calibration.score) == (0.5, 0, "log_diversity")
    assert calibration.provenance["clean"] == "clean.npz"
    assert {"command", "time", "versions", "machine"} <= set(calibration.provenance)


@pytest.mark.parametrize("known_by", ["index", "pixels"])
def test_versions_of_one_source_never_straddle_the_parts(bundle: Bundle, known_by: str) -> None:
    """Two clean copies and several attacked versions of each source; uint8 clean images, float copies in attacks."""
    base = np.random.default_rng(2).integers(0, 256, size=(60, 1, 8, 8), dtype=np.uint8)
    sources = np.concatenate([np.arange(60), np.arange(30)])  # thirty are there twice
    indexed = known_by == "index"
    images = base[sources]
    if indexed:  # two different photographs of one thing
        images = images.copy()
        images[60:, 0, 0, 0] ^= 128
    clean = ImageSet(images=images, source_index=sources if indexed else None)
    origin = np.concatenate([np.arange(60)] * 3)
    start = base[origin].astype(np.float32) / np.float32(255)
    noise = np.random.default_rng(3).normal(size=start.shape).astype(np.float32)
    attacked = ImageSet(
        images=np.clip(start + 0.2 * noise, 0, 1),
        clean=None if indexed else start,
        source_index=origin if indexed else None,
    )
    calibration = run(bundle, clean, {"noise": attacked}, target=Explicit(-1.0), report_fraction=0.4)
    chosen = np.isclose(
        scores_of(bundle, clean.images)[:, None], np.array(calibration.clean_scores), rtol=1e-6, atol=0
    ).any(axis=1)
    behind_it = set(sources[chosen])
    reporting = set(range(60)) - behind_it
    assert len(behind_it) == 36
    # One image of each source counts; how many of an attack's are flagged depends on which.
    assert len(calibration.clean_scores) == 36
    assert calibration.false_positives.n == calibration.attacks[0].flagged.n == 24
    assert calibration.repeats == 30
    flags = (scores_of(bundle, attacked.images) < -1.0).reshape(3, 60)[:, sorted(reporting)]
    assert flags.all(axis=0).sum() <= calibration.attacks[0].flagged.count <= flags.any(axis=0).sum()


def test_attacks_whose_source_is_no_clean_image_report(bundle: Bundle, clean: ImageSet) -> None:
    foreign = ImageSet(images=make_images(30, seed=8), source_index=np.arange(1000, 1030))
    calibration = run(bundle, clean, {"foreign": foreign})
    assert calibration.attacks[0].flagged.n == 30


def test_attacks_of_unknown_origin_are_refused(bundle: Bundle, clean: ImageSet) -> None:
    with pytest.raises(InputError, match="noise: expected the array 'clean', or 'source_index' in every file"):
        run(bundle, clean, {"noise": ImageSet(images=make_images(30))})
    assert not (bundle.path / "calibration.json").exists()


def test_an_attack_that_could_only_choose_the_threshold_is_refused(bundle: Bundle, clean: ImageSet) -> None:
    calibration = run(bundle, clean)
    rows = np.flatnonzero(behind(bundle, clean, calibration))[:20]
    with pytest.raises(InputError, match="noise: expected images of the report part, found none"):
        run(bundle, clean, {"noise": attack(clean, 1, rows=rows.tolist())})


def test_a_separate_report_file(bundle: Bundle, clean: ImageSet) -> None:
    other = ImageSet(images=make_images(80, seed=9), source_index=np.arange(200, 280))
    attacked = attack(other, 4)
    calibration = run(bundle, clean, {"noise": attacked}, report_clean=other)
    assert len(calibration.clean_scores) == 200
    assert calibration.report_fraction is None
    assert calibration.threshold is not None
    assert calibration.false_positives == Rate.of(scores_of(bundle, other.images) < calibration.threshold)
    assert calibration.accuracy is None
    assert calibration.attacks[0].flagged.n == 80


@pytest.mark.parametrize("known_by", ["index", "pixels"])
def test_a_report_file_with_images_of_the_threshold_is_refused(bundle: Bundle, clean: ImageSet, known_by: str) -> None:
    images = make_images(50, seed=9)
    images[7] = clean.images[100]
    index = np.arange(200, 250)
    index[7] = 100
    other = ImageSet(images=images, source_index=index if known_by == "index" else None)
    with pytest.raises(InputError, match="report images: expected other images than the threshold's, found 1 in both"):
        run(bundle, clean, report_clean=other)


def test_a_report_file_in_bytes_with_images_of_the_threshold_is_refused(bundle: Bundle) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, size=(100, 1, 8, 8), dtype=np.uint8)
    clean = ImageSet(images=pixels[:60])
    other = ImageSet(images=pixels[55:].astype(np.float32) / np.float32(255))
    with pytest.raises(InputError, match="found 5 in both"):
        run(bundle, clean, report_clean=other)


def without_time(calibration: Calibration) -> dict[str, Any]:
    return calibration.model_dump(exclude={"provenance", "digest", "probes"})


def test_a_seed_repeats_and_another_differs(bundle: Bundle, clean: ImageSet) -> None:
    one, two, three = (run(bundle, clean, {"noise": attack(clean, 1)}, seed=seed) for seed in (5, 5, 6))
    assert without_time(one) == without_time(two)
    assert one.probes == two.probes
    assert one.clean_scores != three.clean_scores


def without_success(value: Any) -> Any:
    """JSON without what counts the successful attacks alone."""
    if isinstance(value, dict):
        return {key: without_success(part) for key, part in value.items() if "success" not in key}
    return [without_success(part) for part in value] if isinstance(value, list | tuple) else value


def test_labels_are_never_part_of_a_score(bundle: Bundle, clean: ImageSet) -> None:
    """Neither order nor presence of labels changes anything but accuracy, confidence, and which attacks succeeded."""
    assert clean.labels is not None
    wrong = ImageSet(
        images=clean.images, labels=np.random.default_rng(1).permutation(clean.labels), source_index=clean.source_index
    )
    absent = ImageSet(images=clean.images, source_index=clean.source_index)
    attacked = attack(clean, 1, labels=clean.labels)
    relabelled = attack(clean, 1, labels=(clean.labels + 1) % CLASSES)
    one = run(bundle, clean, {"noise": attacked})
    others = [run(bundle, wrong, {"noise": relabelled}), run(bundle, absent, {"noise": attack(clean, 1)})]
    assert one.accuracy is not None
    for other in others:
        assert other.accuracy != one.accuracy
        assert other.confidence != one.confidence
        same = {"accuracy": 0, "confidence": 0}
        assert without_success(without_time(other) | same) == without_success(without_time(one) | same)


def test_the_report_part_does_not_move_the_threshold(bundle: Bundle, clean: ImageSet) -> None:
    """Nor do attacks, where the target is a rate of false alarms."""
    one = run(bundle, clean)
    mask = behind(bundle, clean, one)
    images = np.where(mask[:, None, None, None], clean.images, make_images(200, seed=77))
    other = ImageSet(images=images, labels=clean.labels, source_index=clean.source_index)
    two = run(bundle, other, {"noise": attack(clean, 1)})
    assert (two.threshold, two.clean_scores) == (one.threshold, one.clean_scores)
    assert two.false_positives != one.false_positives


def test_a_detection_rate_comes_from_the_attacks_of_the_threshold_part(bundle: Bundle, clean: ImageSet) -> None:
    attacks = {"one": attack(clean, 1), "two": attack(clean, 2)}
    calibration = run(bundle, clean, attacks, target=TargetTpr(0.8))
    mask = behind(bundle, clean, calibration)
    chosen = [scores_of(bundle, images.images[mask]) for images in attacks.values()]
    assert calibration.threshold == pytest.approx(TargetTpr(0.8).threshold(np.zeros(1), chosen), rel=1e-7)


def test_attacks_in_a_sequence_are_named_by_their_files(bundle: Bundle, clean: ImageSet) -> None:
    named = attack(clean, 1, info={"attack": {"name": "pgd10-0.1", "eps": 0.1}})
    calibration = run(bundle, clean, [named, attack(clean, 2)])
    assert [evidence.name for evidence in calibration.attacks] == ["pgd10-0.1", "attack 1"]
    with pytest.raises(InputError, match="expected one file for each attack, found two of 'pgd10"):
        run(bundle, clean, [named, named])


def test_success_that_never_happened_is_none(bundle: Bundle, clean: ImageSet) -> None:
    evidence = run(bundle, clean, {"noise": attack(clean, 1, success=np.zeros(200, dtype=np.bool_))}).attacks[0]
    assert evidence.successes == 0
    assert evidence.auc_successful is None
    assert evidence.flagged_successful is None


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"target": TargetFpr(0.01)}, CalibrationError, "expected at least 299 clean images .*, found 100"),
        ({"target": TargetTpr(0.9)}, CalibrationError, "expected attacked images, found none"),
        ({"score": "odds"}, InputError, "score: expected one of log_diversity, .*, found odds"),
        ({"report_fraction": 1.5}, InputError, "report fraction: expected a number between 0 and 1, found 1.5"),
        ({"seed": -1}, InputError, "seed: expected at least 0, found -1"),
        (
            {"device": "tpu"},
            InputError,
            "device: expected auto, cpu, cuda or tensorrt, these two with :INDEX, :all or without, found 'tpu'",
        ),
    ],
)
def test_what_is_refused_leaves_the_old_calibration(
    calibrated: Bundle, clean: ImageSet, options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    before = {file.name: file.read_bytes() for file in calibrated.path.iterdir()}
    with pytest.raises(error, match=reason):
        calibrate(calibrated.path, **{"clean": clean, "target": TARGET, "device": "cpu", **options})
    assert {file.name: file.read_bytes() for file in calibrated.path.iterdir()} == before


def test_images_that_do_not_fit_are_named(bundle: Bundle, clean: ImageSet) -> None:
    small = ImageSet(images=make_images(20, shape=(1, 4, 4)), source_index=np.arange(20))
    with pytest.raises(InputError, match=r"^clean: expected shape \(N, 1, 8, 8\), found \(20, 1, 4, 4\)"):
        run(bundle, small)
    with pytest.raises(InputError, match=r"^pgd: expected shape \(N, 1, 8, 8\)"):
        run(bundle, clean, {"pgd": small})
    with pytest.raises(InputError, match=r"^report: expected shape \(N, 1, 8, 8\)"):
        run(bundle, clean, report_clean=small)


def test_a_damaged_calibration_can_be_replaced(calibrated: Bundle, clean: ImageSet) -> None:
    (calibrated.path / "calibration.json").write_text("{}")
    with pytest.raises(CalibrationError):
        Bundle.open(calibrated.path)
    calibration = run(calibrated, clean)
    assert Bundle.open(calibrated.path).calibration == calibration


@pytest.mark.parametrize("value", [-np.inf, np.inf])
def test_a_threshold_at_infinity(bundle: Bundle, clean: ImageSet, value: float) -> None:
    calibration = run(bundle, clean, target=Explicit(value))
    assert calibration.false_positives.rate == (0.0 if value < 0 else 1.0)
    detector = Detector.open(bundle.path, device="cpu", threads=1)
    assert detector.bundle.calibration == calibration
    flags = detector.classify(clean.images).adversarial
    assert flags is not None
    assert flags.all() == (value > 0)
    assert flags.any() == (value > 0)


def test_the_report_is_written(bundle: Bundle, clean: ImageSet, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    calibration = run(bundle, clean, {"noise": attack(clean, 1), "copy": attack(clean, 2)}, report=folder)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.md", "roc.png", "scores.png"]
    text = (folder / "report.md").read_text()
    assert f"threshold: {calibration.threshold:.6g}, chosen as TargetFpr(0.2, delta=0.05) on 100 clean images" in text
    assert str(calibration.false_positives) in text
    for evidence in calibration.attacks:
        assert str(evidence.auc) in text
    assert (folder / "roc.png").read_bytes().startswith(b"\x89PNG")
    run(bundle, clean, report=folder, target=Explicit(-np.inf))  # replaced
    assert "There is none: the threshold was given by hand." in (folder / "report.md").read_text()


def test_labels_of_other_classes_are_refused(bundle: Bundle) -> None:
    clean = ImageSet(images=make_images(200), labels=np.full(200, 10))
    with pytest.raises(InputError, match="clean: labels: expected 0 to 9, found 10 at image 0"):
        calibrate(bundle.path, clean=clean, target=TargetFpr(0.1), device="cpu")


# scores that are fitted


@pytest.fixture
def many() -> ImageSet:
    generator = np.random.default_rng(5)
    labels = generator.integers(CLASSES, size=600)
    return ImageSet(images=make_images(600, seed=5), labels=labels, source_index=np.arange(600))


def test_three_parts_that_share_no_source(bundle: Bundle, many: ImageSet) -> None:
    attacked = attack(many, 1)
    calibration = run(bundle, many, {"noise": attacked}, score="typicality", target=TargetFpr(0.1), fit_fraction=0.4)
    assert calibration.fitted is not None
    assert (calibration.fitted.n, len(calibration.clean_scores), calibration.false_positives.n) == (120, 180, 300)
    assert (calibration.fit_fraction, calibration.report_fraction) == (0.4, 0.5)
    # An attack on an image of the fit neither chooses nor reports.
    assert calibration.attacks[0].flagged.n == 300
    threshold = calibration.threshold
    assert threshold == TargetFpr(0.1).threshold(np.array(calibration.clean_scores), [])


def test_the_parts_of_a_fit_do_not_leak(bundle: Bundle) -> None:
    """By index, images can be exchanged without moving the split."""
    wide = ImageSet(images=make_images(600, seed=6), source_index=np.arange(600))
    one = run(bundle, wide, score="typicality", target=TargetFpr(0.1))
    sources = Sources([wide], [])
    reports = draw(sources.of(wide), 0.5, 0)
    rest = np.array([n for n in range(600) if n not in reports])
    fits = draw(sources.of(wide.only(~np.isin(np.arange(600), list(reports)))), 0.5, 0, "fit")
    assert len(fits) == 150
    assert fits < set(rest.tolist())
    for changed, same_fit, same_scores in (
        (reports, True, True),
        (set(rest.tolist()) - fits, True, False),
        (fits, False, False),
    ):
        images = wide.images.copy()
        images[sorted(changed)] = make_images(len(changed), seed=7)
        two = run(
            bundle, ImageSet(images=images, source_index=np.arange(600)), score="typicality", target=TargetFpr(0.1)
        )
        assert (two.fitted == one.fitted) == same_fit
        assert (two.clean_scores == one.clean_scores) == same_scores


def test_too_few_to_fit(bundle: Bundle, clean: ImageSet) -> None:
    with pytest.raises(CalibrationError, match="typicality: expected at least 100 clean images to fit, found 50"):
        run(bundle, clean, score="typicality")
    with pytest.raises(InputError, match="fit fraction: expected a number between 0 and 1, found 0"):
        run(bundle, clean, score="typicality", fit_fraction=0)


@pytest.mark.parametrize("name", SCORES)
def test_every_score_calibrates_and_opens(bundle: Bundle, many: ImageSet, name: str, tmp_path: Path) -> None:
    """Offline evidence and what the opened bundle answers are the same, to the bit."""
    attacked = attack(many, 1)
    calibration = run(bundle, many, {"noise": attacked}, score=name, target=TargetFpr(0.2), report=tmp_path / "report")
    assert calibration.threshold is not None
    detector = Detector.open(bundle.path, device="cpu", threads=1)
    verdicts = detector.classify(many.images)
    assert verdicts.score is not None
    assert verdicts.adversarial is not None
    assert verdicts.log_diversity is not None
    chosen = np.isin(verdicts.score, np.array(calibration.clean_scores))
    assert chosen.sum() >= len(calibration.clean_scores)
    flags = [flag for flag, source in zip(verdicts.adversarial, chosen, strict=True) if not source]
    if not SCORES[name].needs_fit:
        assert calibration.false_positives == Rate.of(np.array(flags))
    np.testing.assert_array_equal(verdicts.adversarial, verdicts.score < calibration.threshold)
    outputs = Outputs(detector.logits(many.images[:64]))
    np.testing.assert_array_equal(verdicts.log_diversity[:64], outputs.log_diversity)
    assert f"score: {name}, lower is more suspicious" in (tmp_path / "report" / "report.md").read_text()


# the evidence


def test_the_comparison_holds_every_score_on_the_same_images(bundle: Bundle, many: ImageSet) -> None:
    attacks = {"one": attack(many, 1), "two": attack(many, 2)}
    calibration = run(bundle, many, attacks, target=TargetFpr(0.2))
    assert [evidence.score for evidence in calibration.comparison] == list(SCORES)
    own, *_, typicality = calibration.comparison
    assert [row.name for row in own.rows] == ["one", "two", "all together", "worst case"]
    for evidence, row in zip((*calibration.attacks, *calibration.views), own.rows, strict=True):
        assert (evidence.auc, evidence.tpr) == (row.every.auc, row.every.tpr)
    assert (own.fitted, typicality.fitted) == (0, 300)
    assert calibration.fitted is None
    images = calibration.views[1].flagged
    assert images.n == calibration.false_positives.n == 300  # each source once


def test_with_few_images_what_needs_a_fit_is_left_out(bundle: Bundle) -> None:
    clean = ImageSet(images=make_images(150), source_index=np.arange(150))
    calibration = run(bundle, clean, {"noise": attack(clean, 1)})
    assert "typicality" not in [evidence.score for evidence in calibration.comparison]


# the confidence


def test_the_temperature_is_fitted_on_what_does_not_report(bundle: Bundle, many: ImageSet) -> None:
    detector = Detector(Bundle.open(bundle.path, calibrated=False), device="cpu", threads=1)
    verdicts = detector.classify(many.images)
    assert verdicts.recalibrated_probabilities is None
    rng = np.random.default_rng(0)
    wrong = rng.random(600) < 0.1
    labels = np.where(wrong, rng.integers(CLASSES, size=600), verdicts.labels)
    indexed = ImageSet(images=many.images, labels=labels, source_index=np.arange(600))
    found = run(bundle, indexed, target=TargetFpr(0.2)).confidence
    assert found is not None
    mask = np.isin(np.arange(600), sorted(draw(Sources([indexed], []).of(indexed), 0.5, 0)))
    fit = (verdicts.probabilities[~mask], labels[~mask])
    expected = Confidence.of(fit, (verdicts.probabilities[mask], labels[mask]))
    assert found.model_dump() == pytest.approx(expected.model_dump())
    again = run(bundle, indexed, score="typicality", target=TargetFpr(0.2)).confidence
    assert again is not None
    assert again.model_dump() == pytest.approx(expected.model_dump())
    found = again

    opened = Detector.open(bundle.path, device="cpu", threads=1).classify(many.images)
    assert opened.recalibrated_probabilities is not None
    np.testing.assert_array_equal(opened.probabilities, verdicts.probabilities)
    np.testing.assert_allclose(
        opened.recalibrated_probabilities, recalibrate(verdicts.probabilities, found.temperature), rtol=1e-12
    )
    np.testing.assert_array_equal(opened.recalibrated_probabilities.argmax(axis=1), opened.labels)


def test_without_labels_there_is_no_temperature(bundle: Bundle, clean: ImageSet) -> None:
    unlabelled = ImageSet(images=clean.images, source_index=clean.source_index)
    assert run(bundle, unlabelled).confidence is None
    verdicts = Detector.open(bundle.path, device="cpu", threads=1).classify(clean.images)
    assert verdicts.recalibrated_probabilities is None


# a threshold for each class


def test_a_threshold_for_each_class(tmp_path: Path) -> None:
    weights = [linear_weights(seed) for seed in range(MEMBERS)]  # centred, so that every class is predicted
    models = [make_model(weights=w - w.mean(axis=0)).SerializeToString() for w in weights]
    bundle = write_bundle(tmp_path / "even", members=models, labels=list("0123456789"), provenance={"command": "test"})
    clean = ImageSet(images=make_images(2000, seed=3))
    calibration = run(bundle, clean, target=PerClass(TargetFpr(0.3, 0.5)))
    assert calibration.threshold is None
    assert calibration.thresholds is not None
    assert calibration.clean_classes is not None
    assert len(set(calibration.thresholds)) == CLASSES
    scores, classes = np.array(calibration.clean_scores), np.array(calibration.clean_classes)
    for label, threshold in enumerate(calibration.thresholds):
        assert threshold == TargetFpr(0.3, 0.05).threshold(scores[classes == label], [])

    detector = Detector.open(bundle.path, device="cpu", threads=1)
    verdicts = detector.classify(make_images(300, seed=4))
    assert verdicts.score is not None
    assert verdicts.p_values is not None
    expected = [
        score < calibration.thresholds[label] for score, label in zip(verdicts.score, verdicts.labels, strict=True)
    ]
    np.testing.assert_array_equal(verdicts.adversarial, expected)
    assert len(set(expected)) == 2
    for score, label, p_value in zip(verdicts.score, verdicts.labels, verdicts.p_values, strict=True):
        own = scores[classes == label]
        assert p_value == (1 + (own <= score).sum()) / (1 + len(own))


def test_a_class_with_too_few_images_is_named(bundle: Bundle, clean: ImageSet) -> None:
    with pytest.raises(
        CalibrationError, match=r"class 0 \(class 0\): TargetFpr\(0.2, delta=0.005\): expected at least 24"
    ):
        run(bundle, clean, target=PerClass(TargetFpr(0.2)))
    assert not (bundle.path / "calibration.json").exists()


# calibrations of format 1


NEW = {
    *("fitted", "thresholds", "confidence", "views", "comparison", "fit_fraction", "repeats", "clean_classes"),
    *("changed_fpr", "fit_from"),
}


def test_a_calibration_of_format_1_opens_and_flags_as_it_did(calibrated: Bundle) -> None:
    """Written as the first version wrote it: without any of the fields that came later."""
    before = Detector(calibrated, device="cpu", threads=1).classify(make_images(50))
    file = calibrated.path / "calibration.json"
    old = json.loads(file.read_text()) | {"format": 1, "digest": ""}
    old["probes"].pop("logit_tolerance")
    blank = json.dumps({name: value for name, value in old.items() if name not in NEW}, indent=2) + "\n"
    digest = hashlib.sha256(blank.encode()).hexdigest()
    file.write_text(blank.replace('"digest": ""', f'"digest": "{digest}"'))
    detector = Detector.open(calibrated.path, device="cpu", threads=1)
    assert detector.bundle.calibration is not None
    assert (detector.bundle.calibration.format, detector.bundle.calibration.digest) == (1, digest)
    after = detector.classify(make_images(50))
    np.testing.assert_array_equal(after.adversarial, before.adversarial)
    np.testing.assert_array_equal(after.p_values, before.p_values)


def test_the_shipped_calibration_opens() -> None:
    calibration = Bundle.open(shipped_bundle()).calibration
    assert calibration is not None
    assert calibration.threshold is not None
    assert calibration.flags(np.array([calibration.threshold]), np.zeros(1, dtype=np.int64)).tolist() == [False]


@pytest.mark.parametrize(("name", "other"), [("typicality", "mahalanobis"), ("mahalanobis", "typicality")])
def test_the_fit_of_another_score_is_refused(bundle: Bundle, many: ImageSet, name: str, other: str) -> None:
    document, stranger = (run(bundle, many, score=score).model_dump(mode="json") for score in (name, other))
    with pytest.raises(ValueError, match=f"fitted: {name}: expected a fit of its own, found one of another score"):
        Calibration.model_validate(document | {"fitted": stranger["fitted"]})
