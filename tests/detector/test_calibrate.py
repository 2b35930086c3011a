"""Calibrating against a twin that scores and counts image by image; and what must not leak from part to part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.imageset import ImageSet
from detector.rates import Auc, Rate
from detector.targets import Explicit, Target, TargetFpr, TargetTpr
from tests.conftest import CLASSES, make_images

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
    behind_it, reporting = set(sources[chosen]), set(sources[~chosen])
    assert behind_it.isdisjoint(reporting)
    assert (len(behind_it), len(reporting)) == (36, 24)
    assert calibration.false_positives.n == (~chosen).sum()
    mask = np.isin(origin, list(reporting))
    assert calibration.attacks[0].flagged.n == mask.sum() == 3 * 24
    expected = Rate.of(scores_of(bundle, attacked.images)[mask] < -1.0)
    assert calibration.attacks[0].flagged == expected


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


def test_labels_are_never_part_of_a_score(bundle: Bundle, clean: ImageSet) -> None:
    """Neither order nor presence of labels changes anything but the accuracy."""
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
        assert {**without_time(other), "accuracy": 0} == {**without_time(one), "accuracy": 0}


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
    assert evidence.auc_successful is None
    assert evidence.flagged_successful is None


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"target": TargetFpr(0.01)}, CalibrationError, "expected at least 299 clean images .*, found 100"),
        ({"target": TargetTpr(0.9)}, CalibrationError, "expected attacked images, found none"),
        ({"score": "entropy"}, InputError, "score: expected one of log_diversity, found entropy"),
        ({"report_fraction": 1.5}, InputError, "report fraction: expected a number between 0 and 1, found 1.5"),
        ({"seed": -1}, InputError, "seed: expected at least 0, found -1"),
        ({"device": "tpu"}, InputError, "device: expected auto, cpu, cuda or cuda:INDEX, found 'tpu'"),
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
    assert sorted(file.name for file in folder.iterdir()) == ["report.md", "roc.png", "scores.png"]
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
