"""The detector's verdicts against a slow twin, one image at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy.special import softmax

from detector.bundle import Bundle, write_bundle
from detector.detector import Detector
from detector.device import ExecutionPath
from detector.errors import BundleError, CalibrationError, DeviceError, InputError
from detector.scores.log_diversity import LogDiversity
from detector.verdicts import Verdicts
from tests.conftest import CLASSES, MEMBERS, SHAPE, linear_weights, make_images, make_model


@pytest.fixture
def detector(calibrated: Bundle) -> Detector:
    return Detector(calibrated, device="cpu", threads=1)


def twin(logits: NDArray[Any], bundle: Bundle) -> dict[str, Any]:
    """The verdict on one image, (K, L), as the definitions say it."""
    probabilities = sum(softmax(member.astype(np.float64)) for member in logits) / len(logits)
    label = max(range(len(probabilities)), key=lambda index: (probabilities[index], -index))
    columns = []
    for member in logits.astype(np.float64):
        others = np.delete(np.exp(member - member.max()), label)
        columns.append(others / math.sqrt(sum(value**2 for value in others)))
    gram = [[sum(x * y for x, y in zip(a, b, strict=True)) for b in columns] for a in columns]
    score = math.log(np.linalg.det(gram))
    calibration = bundle.calibration
    assert calibration is not None
    below = sum(clean <= score for clean in calibration.clean_scores)
    assert calibration.threshold is not None
    return {
        "label": label,
        "class_name": bundle.labels[label],
        "probabilities": probabilities,
        "score": score,
        "p_value": (1 + below) / (1 + len(calibration.clean_scores)),
        "adversarial": score < calibration.threshold,
    }


def same(found: Verdicts, expected: Verdicts) -> None:
    """Equal up to the order of float64 sums."""
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.class_names == expected.class_names
    for name in ("probabilities", "log_diversity", "score", "p_values", "member_probabilities"):
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None)
        if one is not None:
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-12)
    assert (found.adversarial is None) == (expected.adversarial is None)
    if found.adversarial is not None and expected.adversarial is not None:
        np.testing.assert_array_equal(found.adversarial, expected.adversarial)


def test_judging_against_the_twin(detector: Detector) -> None:
    logits = np.random.default_rng(5).normal(size=(60, MEMBERS, CLASSES)).astype(np.float32) * 2
    verdicts = detector.judge(logits, members=True)
    assert len(verdicts) == 60
    assert verdicts.score is not None
    assert verdicts.p_values is not None
    assert verdicts.adversarial is not None
    for image, one in enumerate(logits):
        expected = twin(one, detector.bundle)
        assert verdicts.labels[image] == expected["label"]
        assert verdicts.class_names[image] == expected["class_name"]
        np.testing.assert_allclose(verdicts.probabilities[image], expected["probabilities"], rtol=1e-12)
        assert verdicts.score[image] == pytest.approx(expected["score"], rel=1e-7)
        assert verdicts.p_values[image] == expected["p_value"]
        assert verdicts.adversarial[image] == expected["adversarial"]
    assert verdicts.adversarial.any()
    assert not verdicts.adversarial.all()
    np.testing.assert_array_equal(verdicts.log_diversity, verdicts.score)
    assert verdicts.member_probabilities is not None
    np.testing.assert_allclose(verdicts.member_probabilities, softmax(logits.astype(np.float64), axis=2), rtol=1e-12)


def test_classifying_is_running_and_judging(detector: Detector) -> None:
    images = make_images(20, seed=4)
    weights = np.stack([linear_weights(seed) for seed in range(MEMBERS)])
    by_hand = np.einsum("np,kpl->nkl", images.reshape(20, -1).astype(np.float64), weights)
    np.testing.assert_allclose(detector.logits(images), by_hand, rtol=1e-4, atol=1e-5)
    same(detector.classify(images), detector.judge(detector.logits(images)))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_chunks_and_single_images_get_the_same_answer(detector: Detector, count: int) -> None:
    images = make_images(count, seed=6)
    together = detector.classify(images, members=True)
    one_by_one = [detector.classify(images[n : n + 1], members=True) for n in range(count)]
    same(together, Verdicts.concatenate(one_by_one))


def test_bytes_equal_floats_over_255(detector: Detector) -> None:
    pixels = np.random.default_rng(8).integers(0, 256, size=(10, *SHAPE), dtype=np.uint8)
    assert {0, 255} <= set(pixels.ravel().tolist())
    same(detector.classify(pixels), detector.classify(pixels.astype(np.float32) / np.float32(255)))


def with_scores(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> Verdicts:
    """Verdicts on images whose score is given."""
    detector = Detector(calibrated, device="cpu", threads=1)
    monkeypatch.setattr(LogDiversity, "measure", lambda self, outputs: np.array(scores))
    return detector.judge(np.zeros((len(scores), MEMBERS, CLASSES)))


def test_flagged_strictly_below_the_threshold(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert calibrated.calibration is not None
    at = calibrated.calibration.threshold
    assert at is not None
    below, above = float(np.nextafter(at, -np.inf)), float(np.nextafter(at, np.inf))
    verdicts = with_scores(calibrated, monkeypatch, [below, at, above, -np.inf, 0.0])
    assert verdicts.adversarial is not None
    assert verdicts.adversarial.tolist() == [True, False, False, True, False]


def test_p_values_are_conformal(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """(1 + clean scores at least as suspicious) / (n + 1); a tie counts."""
    assert calibrated.calibration is not None
    clean = calibrated.calibration.clean_scores
    n = len(clean)
    just = [float(np.nextafter(value, -np.inf)) for value in clean]
    verdicts = with_scores(calibrated, monkeypatch, [-np.inf, 0.0, *clean, *just])
    assert verdicts.p_values is not None
    assert verdicts.p_values[:2].tolist() == [1 / (n + 1), 1.0]
    np.testing.assert_array_equal(verdicts.p_values[2 : 2 + n], np.arange(2, n + 2) / (n + 1))
    np.testing.assert_array_equal(verdicts.p_values[2 + n :], np.arange(1, n + 1) / (n + 1))


def test_a_score_that_is_no_number_is_never_a_verdict(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CalibrationError, match="log_diversity: expected numbers, found nan"):
        with_scores(calibrated, monkeypatch, [0.0, float("nan")])


def test_the_flag_is_the_threshold_and_not_the_p_value(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert calibrated.calibration is not None
    assert calibrated.calibration.threshold is not None
    verdicts = with_scores(calibrated, monkeypatch, [calibrated.calibration.threshold])
    assert verdicts.p_values is not None
    assert verdicts.adversarial is not None
    assert verdicts.p_values[0] < 0.2  # the target's rate
    assert not verdicts.adversarial[0]


def test_without_a_calibration_nothing_is_flagged(bundle: Bundle) -> None:
    verdicts = Detector(bundle, device="cpu", threads=1).classify(make_images(5))
    assert verdicts.adversarial is None
    assert verdicts.p_values is None
    assert verdicts.score is not None
    np.testing.assert_array_equal(verdicts.score, verdicts.log_diversity)
    assert verdicts.member_probabilities is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_never_a_verdict(detector: Detector, value: float) -> None:
    logits = np.zeros((4, MEMBERS, CLASSES), dtype=np.float32)
    logits[2, 1, 7] = value
    with pytest.raises(InputError, match=f"expected finite numbers, found {value} at image 2, member 1, class 7"):
        detector.judge(logits)


def fragile(seed: int) -> bytes:
    """A linear member that answers with NaN where a pixel is exactly 1, which noise never is."""
    model = make_model(seed)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((), dtype=np.float32), "one"))
    model.graph.node[0].input[0] = "kept"
    before = [
        helper.make_node("Sub", ["images", "one"], ["gap"]),
        helper.make_node("Div", ["gap", "gap"], ["ones"]),
        helper.make_node("Mul", ["images", "ones"], ["kept"]),
    ]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def test_a_member_that_answers_nan_is_named_with_the_image(tmp_path: Path) -> None:
    """The image is counted from the first of the call, in whatever chunk it lies."""
    members = [make_model(0).SerializeToString(), fragile(1), make_model(2).SerializeToString()]
    bundle = write_bundle(tmp_path / "fragile", members=members, labels=list("0123456789"), provenance={})
    detector = Detector(bundle, device="cpu", threads=1)
    images = make_images(140)
    assert len(detector.classify(images)) == 140
    images[131, 0, 2, 3] = 1.0
    assert np.isnan(detector.logits(images)[131, 1]).all()
    with pytest.raises(InputError, match=r"expected finite numbers, found nan at image 131, member 1, class 0"):
        detector.classify(images)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((1, 8, 8), dtype=np.float32), r"images: expected shape \(N, C, H, W\), found \(1, 8, 8\)"),
        (np.zeros((2, 1, 8, 9), dtype=np.float32), r"images: expected shape \(N, 1, 8, 8\), found \(2, 1, 8, 9\)"),
        (np.zeros((2, 3, 8, 8), dtype=np.float32), r"expected shape \(N, 1, 8, 8\), found \(2, 3, 8, 8\)$"),
        (
            np.zeros((2, 8, 8, 1), dtype=np.float32),
            r"found \(2, 8, 8, 1\); np.moveaxis\(images, -1, -3\) puts channels ",
        ),
        (np.zeros((0, 1, 8, 8), dtype=np.float32), "images: expected at least one image, found none"),
        (np.zeros((2, 1, 8, 8)), r"images: expected uint8 or float32, found float64; astype\(np.float32\) converts"),
        (["cat.png"], "images: expected uint8 or float32, found <U7$"),
        (np.full((2, 1, 8, 8), 1.5, dtype=np.float32), r"images\[0\]: expected values in \[0, 1\], found 1.5"),
        (np.full((2, 1, 8, 8), np.nan, dtype=np.float32), r"images\[0\]: expected values in \[0, 1\], found nan"),
    ],
)
def test_images_that_do_not_fit(detector: Detector, images: NDArray[Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        detector.classify(images)


def test_opening_names_what_is_missing(tmp_path: Path, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="expected a bundle's folder, found nothing"):
        Detector.open(tmp_path / "nowhere", device="cpu")
    with pytest.raises(
        InputError,
        match="device: expected auto, cpu, cuda or tensorrt, these two with :INDEX, :all or without, found 'gpu'",
    ):
        Detector.open(bundle.path, device="gpu")
    with pytest.raises(DeviceError, match="device cuda:1000: "):
        Detector.open(bundle.path, device="cuda:1000")


def test_the_execution_path_is_stated(detector: Detector, calibrated: Bundle) -> None:
    expected = ExecutionPath(provider="CPUExecutionProvider", dtype="float32", tf32=False)
    assert detector.execution_path == expected
    assert calibrated.calibration is not None
    assert calibrated.calibration.execution_path == expected


def test_verdicts_join_in_order_and_lack_what_one_lacks(detector: Detector) -> None:
    images = make_images(6)
    with_members, without = detector.classify(images[:2], members=True), detector.classify(images[2:])
    joined = Verdicts.concatenate([with_members, without])
    same(joined, detector.classify(images))
    assert joined.member_probabilities is None
    assert joined.class_names == with_members.class_names + without.class_names
