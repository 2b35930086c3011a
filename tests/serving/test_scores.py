"""Every score decides alike offline, embedded and through gRPC, to the bit; and what a reply tells of it."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle, write_bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.imageset import ImageSet
from detector.scores import SCORES
from detector.targets import PerClass, Target, TargetFpr
from protos.ledgate.v1 import classifier_pb2 as pb
from serving.config import Reply
from tests.serving.conftest import CLASSES, Served, member, picture, request

Serve = Callable[..., Served]
# Some classes are predicted for one image in 400.
BY_CLASS = PerClass(TargetFpr(0.45, 0.9))
MakeDetector = Callable[..., Detector]

IMAGES = np.stack([picture(number) for number in range(256)])


@pytest.fixture
def detector(tmp_path: Path) -> MakeDetector:
    """Makes a calibrated bundle of labelled pictures and opens it."""

    def make(
        score: str = "log_diversity", target: Target | None = None, *, labelled: bool = True, count: int = 1500
    ) -> Detector:
        labels = [f"class {index}" for index in range(CLASSES)]
        members = [member(seed) for seed in range(3)]
        bundle = write_bundle(tmp_path / "scored", members=members, labels=labels, provenance={"command": "test"})
        images = np.random.default_rng(1).integers(0, 2, (count, *IMAGES.shape[1:])).astype(np.float32)
        predicted = Detector(bundle, device="cpu", threads=1).classify(images).labels
        clean = ImageSet(images=images, labels=predicted if labelled else None)
        calibrate(bundle.path, clean=clean, target=target or TargetFpr(0.3), score=score, device="cpu")
        return Detector.open(bundle.path, device="cpu", threads=1)

    return make


@pytest.mark.parametrize("score", SCORES)
def test_offline_embedded_and_served_are_one(score: str, detector: MakeDetector, serve: Serve) -> None:
    embedded = detector(score)
    calibration = embedded.bundle.calibration
    assert calibration is not None
    assert calibration.threshold is not None
    verdicts = embedded.classify(IMAGES, members=True)
    served = serve(embedded, max_batch=7, allow_members=True).client.classify(IMAGES, members=True)
    for field in fields(verdicts):
        found, expected = getattr(served, field.name), getattr(verdicts, field.name)
        assert expected is not None
        np.testing.assert_array_equal(found, expected, err_msg=field.name)
    offline = calibration.score_fitted.of(embedded.logits(IMAGES))
    np.testing.assert_array_equal(offline, verdicts.score)
    np.testing.assert_array_equal(offline < calibration.threshold, verdicts.adversarial)
    assert verdicts.adversarial is not None
    assert 0 < verdicts.adversarial.sum() < len(IMAGES)


def test_the_reply_tells_the_score_and_always_log_diversity(detector: MakeDetector, serve: Serve) -> None:
    embedded = detector("typicality")
    reply = serve(embedded).stub.Classify(request(*range(20)))
    assert reply.score_name == "typicality"
    plain = Detector(Bundle.open(embedded.bundle.path, calibrated=False), device="cpu", threads=1)
    diversity = plain.classify(IMAGES[:20]).log_diversity
    assert diversity is not None
    assert [result.log_diversity for result in reply.results] == diversity.tolist()
    assert all(result.score != result.log_diversity for result in reply.results)


@pytest.mark.parametrize("reply", list(Reply))
def test_the_recalibrated_prediction_is_given_beside_the_mean(
    reply: Reply, detector: MakeDetector, serve: Serve
) -> None:
    embedded = detector()
    verdicts = embedded.classify(IMAGES[:9])
    results = serve(embedded, reply=reply).stub.Classify(request(*range(9))).results
    assert verdicts.recalibrated_probabilities is not None
    for result, mean, second in zip(results, verdicts.probabilities, verdicts.recalibrated_probabilities, strict=True):
        assert list(result.probabilities) == mean.tolist()
        assert list(result.recalibrated_probabilities) == second.tolist()
        assert list(result.probabilities) != list(result.recalibrated_probabilities)


def test_without_labels_the_second_field_is_empty(detector: MakeDetector, serve: Serve) -> None:
    served = serve(detector(labelled=False))
    assert list(served.stub.Classify(request(1)).results[0].recalibrated_probabilities) == []
    assert served.client.classify(IMAGES[:2]).recalibrated_probabilities is None


def test_a_threshold_for_each_class(detector: MakeDetector, serve: Serve) -> None:
    embedded = detector(target=BY_CLASS, count=10_000)
    calibration = embedded.bundle.calibration
    assert calibration is not None
    assert calibration.thresholds is not None
    served = serve(embedded)
    reply = served.stub.Classify(request(*range(256)))
    assert not reply.HasField("threshold")
    assert tuple(reply.thresholds) == calibration.thresholds
    for result in reply.results:
        assert result.adversarial == (result.score < reply.thresholds[result.class_index])
    assert {result.adversarial for result in reply.results} == {True, False}
    described = served.stub.GetModel(pb.GetModelRequest()).calibration
    assert not described.HasField("threshold")
    assert tuple(described.thresholds) == calibration.thresholds
    info = served.client.model()
    assert (info.threshold, info.thresholds) == (None, calibration.thresholds)
    assert info.target == "PerClass(TargetFpr(0.45, delta=0.9))"


def test_flag_only_hides_the_thresholds_of_the_classes(detector: MakeDetector, serve: Serve) -> None:
    served = serve(detector(target=BY_CLASS, count=10_000), reply=Reply.FLAG_ONLY)
    reply: Any = served.stub.Classify(request(1))
    assert list(reply.thresholds) == []
    assert served.client.model().thresholds is None
