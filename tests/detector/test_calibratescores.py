"""Calibrating on scores alone: the threshold of the same scores, what is recorded, and what is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibratescores import WARNING, calibrate_scores
from detector.detector import Detector
from detector.errors import CalibrationError, InputError
from detector.imageset import ImageSet
from detector.rates import Rate
from detector.scorefile import Origin, Scores
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr, TargetTpr, Youden
from tests.conftest import make_images

TARGET = TargetFpr(0.2)
PATH = "CPUExecutionProvider float32"


def write(file: Path, bundle: Bundle, scores: Any, changed: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """A score log, as a server writes it."""
    head = {"time": "t", "bundle": bundle.digest[:16], "score_name": "log_diversity", "path": PATH, "class": 1}
    file.write_text("".join(f"{json.dumps({**head, **changed, 'score': score})}\n" for score in scores))
    return file


@pytest.fixture
def scores() -> list[float]:
    return list(map(float, np.random.default_rng(0).normal(-2, 1, size=400)))


def run(bundle: Bundle, path: Path, target: Target = TARGET, **options: Any) -> Any:
    return calibrate_scores(bundle.path, path, target=target, device="cpu", **options)


def test_the_threshold_of_one_part_reported_on_the_other(bundle: Bundle, tmp_path: Path, scores: list[float]) -> None:
    found = run(bundle, write(tmp_path / "log.jsonl", bundle, scores))
    behind = np.array(found.clean_scores)
    rest = np.array(sorted(set(scores) - set(found.clean_scores)))
    assert (len(behind), len(rest)) == (200, 200)
    assert found.threshold == TargetFpr(0.2).threshold(behind, [])
    assert found.false_positives == Rate.of(rest < found.threshold)
    assert found.accuracy is None
    assert found.confidence is None
    assert found.provenance["assumed"] == WARNING
    again = run(bundle, tmp_path / "log.jsonl")
    assert again.clean_scores == found.clean_scores
    assert run(bundle, tmp_path / "log.jsonl", seed=1).clean_scores != found.clean_scores


def test_the_bundle_serves_on_that_path(bundle: Bundle, tmp_path: Path, scores: list[float]) -> None:
    found = run(bundle, write(tmp_path / "log.jsonl", bundle, scores))
    detector = Detector.open(bundle.path, device="cpu")
    assert detector.bundle.calibration == found
    verdicts = detector.classify(make_images(20))
    assert verdicts.score is not None
    np.testing.assert_array_equal(verdicts.adversarial, verdicts.score < found.threshold)


def test_without_probes_it_holds_on_no_other_path(
    bundle: Bundle, tmp_path: Path, scores: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(bundle, write(tmp_path / "log.jsonl", bundle, scores))
    other = Detector(bundle, device="cpu").execution_path.model_copy(update={"tf32": True})
    monkeypatch.setattr(Detector, "execution_path", property(lambda _: other))
    with pytest.raises(CalibrationError, match="it has no probes to compare"):
        Detector.open(bundle.path, device="cpu")


def test_saved_scores_will_do(bundle: Bundle, tmp_path: Path, scores: list[float]) -> None:
    origin = Origin(bundle=bundle.digest, score="log_diversity")
    Scores(values=np.array(scores), path=PATH).save(tmp_path / "scores.npz", origin)
    assert len(run(bundle, tmp_path / "scores.npz", MeanFpr(0.1)).clean_scores) == 200


def test_a_threshold_for_each_class(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    origin = Origin(bundle=bundle.digest, score="log_diversity")
    saved = Scores(values=rng.normal(size=1000), classes=np.arange(1000) % 10, path=PATH)
    saved.save(tmp_path / "scores.npz", origin)
    found = run(bundle, tmp_path / "scores.npz", PerClass(MeanFpr(0.1)))
    assert len(found.thresholds) == 10
    assert len(found.clean_classes) == 500
    Scores(values=rng.normal(size=1000), path=PATH).save(tmp_path / "scores.npz", origin)
    with pytest.raises(InputError, match=r"scores\.npz: expected the predicted class of each score for PerClass"):
        run(bundle, tmp_path / "scores.npz", PerClass(MeanFpr(0.1)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"bundle": None}, "expected scores that tell their bundle, score and execution path"),
        ({"score_name": None}, "expected scores that tell their bundle, score and execution path"),
        ({"path": None}, "expected scores that tell their bundle, score and execution path"),
        ({"bundle": "ab" * 8}, "found 400 of others only"),
        ({"score_name": "entropy"}, "found 400 of others only"),
        ({"path": "CUDAExecutionProvider float32"}, f"expected scores of {PATH}, where this device runs, found CUDA"),
    ],
)
def test_scores_of_unknown_or_other_origin_are_refused(
    bundle: Bundle, tmp_path: Path, scores: list[float], changed: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path / "log.jsonl", bundle, scores, changed)
    with pytest.raises(InputError, match=rf"log\.jsonl: .*{reason}"):
        run(bundle, path)
    assert not (bundle.path / "calibration.json").exists()


def test_plain_numbers_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("-1\n" * 100)
    with pytest.raises(InputError, match="nothing shows which these are of"):
        run(bundle, tmp_path / "scores.csv")


@pytest.mark.parametrize("target", [TargetTpr(0.9), Youden(), PerClass(Youden())], ids=str)
def test_targets_that_need_attacks_are_refused(bundle: Bundle, tmp_path: Path, target: Target) -> None:
    path = write(tmp_path / "log.jsonl", bundle, [-1.0] * 10)
    with pytest.raises(CalibrationError, match="expected attacked images, found scores alone"):
        run(bundle, path, target)


def fitted(bundle: Bundle, name: str) -> tuple[Bundle, dict[str, Any]]:
    """The bundle, calibrated on a score that is fitted; and what its server's log says beside each score."""
    calibrate(bundle.path, clean=ImageSet(images=make_images(500)), target=TARGET, score=name, device="cpu")
    opened = Bundle.open(bundle.path)
    assert opened.calibration is not None
    return opened, {"score_name": name, "calibration": opened.calibration.digest[:16]}


@pytest.mark.parametrize("name", ["mahalanobis", "typicality"])
@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "by default"])
def test_a_score_that_is_fitted_keeps_its_fit_to_the_bit(
    bundle: Bundle, tmp_path: Path, name: str, *, asked: bool
) -> None:
    opened, told = fitted(bundle, name)
    before = opened.calibration
    assert before is not None
    verdicts = Detector(opened, device="cpu").classify(make_images(300, seed=4))
    assert verdicts.score is not None
    path = write(tmp_path / "log.jsonl", bundle, verdicts.score.tolist(), told)
    found = run(bundle, path, score=name if asked else None)
    assert (found.score, found.fitted, found.fit_from) == (name, before.fitted, before.digest)
    assert found.threshold != before.threshold
    assert set(found.clean_scores) < set(verdicts.score.tolist())
    again = Detector.open(bundle.path, device="cpu").classify(make_images(300, seed=4))
    np.testing.assert_array_equal(again.score, verdicts.score)
    with pytest.raises(
        InputError, match=r"log\.jsonl: expected scores of .* as calibration .* found 300 of others only"
    ):
        run(bundle, path)  # which names the calibration that was replaced


def test_a_promise_about_mild_changes_that_goes_is_told(bundle: Bundle, tmp_path: Path) -> None:
    clean = ImageSet(images=make_images(1000))
    calibrate(bundle.path, clean=clean, target=TARGET, score="energy", device="cpu", changed_fpr=0.3)
    found = run(bundle, write(tmp_path / "log.jsonl", bundle, [-1.0] * 100, {"score_name": "energy"}))
    assert (found.score, found.changed_fpr) == ("energy", None)
    assert "the promise about mild changes (--changed-fpr 0.3) is gone" in found.provenance["assumed"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"calibration": "ab" * 8},
            "as calibration [0-9a-f]{16} fitted it by bundle [0-9a-f]{16}, found 300 of others",
        ),
        ({"calibration": None}, "execution path, and their calibration, as a score log does, found some that do not"),
        ({"score_name": "typicality"}, "found 300 of others only"),
    ],
    ids=["another", "none", "another score"],
)
def test_scores_of_another_fit_are_refused(
    bundle: Bundle, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    opened, told = fitted(bundle, "mahalanobis")
    path = write(tmp_path / "log.jsonl", bundle, [-1.0] * 300, told | changed)
    with pytest.raises(InputError, match=reason):
        run(bundle, path)
    assert Bundle.open(bundle.path).calibration == opened.calibration


def test_without_a_fit_to_keep_images_are_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", bundle, [-1.0] * 10)
    with pytest.raises(CalibrationError, match=r"typicality: expected images to fit it on, or .* alone and none"):
        run(bundle, path, Explicit(-1.0), score="typicality")
    fitted(bundle, "mahalanobis")
    with pytest.raises(CalibrationError, match=r"typicality: .* found scores alone and one of mahalanobis"):
        run(bundle, path, Explicit(-1.0), score="typicality")


def test_a_calibration_that_is_damaged_can_be_replaced(bundle: Bundle, tmp_path: Path, scores: list[float]) -> None:
    path = write(tmp_path / "log.jsonl", bundle, scores)
    (bundle.path / "calibration.json").write_text("{}")
    with pytest.raises(CalibrationError, match=r"calibration\.json"):
        run(bundle, path)
    assert run(bundle, path, score="log_diversity").fit_from is None


def test_too_few_scores(bundle: Bundle, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", bundle, [-1.0] * 10)
    with pytest.raises(CalibrationError, match="expected at least 299 clean images in the threshold part, found 5"):
        run(bundle, path, TargetFpr(0.01))


def test_images_are_no_scores(bundle: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "clean.npz", images=make_images(3))
    with pytest.raises(InputError, match=r"clean\.npz: expected scores alone, as \.jsonl or \.npz"):
        run(bundle, tmp_path / "clean.npz")
