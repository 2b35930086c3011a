"""On a CUDA device detection is measured as it is on a CPU. Last run: H200, 2026-11-26, ONNX Runtime 1.31.1."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.detection.conftest import COUNTS
from training import Dataset, Run
from training.detection.content import Content
from training.detection.report import write_detection
from training.detection.subject import Subject
from training.evaluation.experiment import Experiment
from training.evaluation.hidden import hidden_features

pytestmark = pytest.mark.gpu


@pytest.fixture
def on_gpu(run: Run, digits: Dataset) -> Subject:
    return Subject(run, digits, device="cuda", threads=1)


def test_answers_are_in_full_float32(subject: Subject, on_gpu: Subject) -> None:
    images = subject.images("test", 100)
    np.testing.assert_allclose(on_gpu.logits(images), subject.logits(images), rtol=1e-4, atol=1e-4)


def test_hidden_features_are_the_same(subject: Subject, on_gpu: Subject) -> None:
    images = subject.images("test", 100)
    own, other = (hidden_features(each.victim.ensemble, images, 0) for each in (subject, on_gpu))
    assert own is not None
    assert other is not None
    np.testing.assert_allclose(other, own, rtol=1e-2, atol=1e-2)


@pytest.mark.usefixtures("small_ladders")
def test_the_page_is_written(experiment: Experiment, content: Content, tmp_path: Path) -> None:
    found = write_detection(tmp_path, [experiment], COUNTS, device="cuda", progress=False)
    assert (tmp_path / "detection.md").exists()
    for own, other in zip(content.runs, found.runs, strict=True):
        assert other.right == own.right
        assert [each.name for each in other.attacks] == [each.name for each in own.attacks]
        for figures, others in zip(own.figures, other.figures, strict=True):
            assert others.threshold == pytest.approx(figures.threshold, rel=1e-2)
