"""Replicas: what one ensemble gives, from that which has least to do."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.detector import Detector
from detector.device import CPU, CUDA, ExecutionPath
from detector.ensemble import Ensemble
from detector.errors import CalibrationError
from detector.replicas import Replicas
from tests.conftest import make_images, make_members

PATIENCE_S = 30.0
Images = NDArray[Any]


class Fake:
    """An ensemble that does as it is told, and answers with zeros."""

    execution_path = ExecutionPath(provider=CPU)

    def __init__(self, work: Callable[[int], object]) -> None:
        self.work = work
        self.counts: list[int] = []

    def logits(self, images: Images) -> Images:
        self.counts.append(len(images))
        self.work(len(images))
        return np.zeros((len(images), 3, 10), np.float32)


def replicas(*fakes: Any) -> Replicas:
    return Replicas(fakes)


def test_the_same_logits_as_of_one_for_several_callers() -> None:
    ensembles = [Ensemble(make_members(), device="cpu", threads=1) for _ in range(2)]
    both = Replicas(ensembles)
    inputs = [make_images(count, seed=count) for count in (1, 5, 64, 65)]
    with ThreadPoolExecutor(len(inputs)) as callers:
        for images, found in zip(inputs, callers.map(both.logits, inputs * 5), strict=False):
            np.testing.assert_array_equal(found, ensembles[0].logits(images))


def test_as_many_batches_at_once_as_replicas_have_one_each() -> None:
    """Each waits for the others: were two handed to one, or did one wait for another, the counts would say so."""
    barrier = threading.Barrier(3)
    fakes = [Fake(lambda count: barrier.wait(PATIENCE_S)) for _ in range(3)]
    every = replicas(*fakes)
    with ThreadPoolExecutor(3) as callers:
        assert [len(found) for found in callers.map(every.logits, [make_images(n) for n in (1, 2, 3)])] == [1, 2, 3]
    assert sorted(count for fake in fakes for count in fake.counts) == [1, 2, 3]
    assert [len(fake.counts) for fake in fakes] == [1, 1, 1]


def test_the_next_batch_goes_to_the_one_that_has_ended() -> None:
    begun, ended = threading.Event(), threading.Event()

    def hold(count: int) -> None:
        if count == 7:
            begun.set()
            assert ended.wait(PATIENCE_S)

    fakes = [Fake(hold), Fake(hold)]
    both = replicas(*fakes)
    with ThreadPoolExecutor(1) as callers:
        held = callers.submit(both.logits, make_images(7))
        assert begun.wait(PATIENCE_S)
        for _ in range(3):
            both.logits(make_images(1))
        ended.set()
        held.result(PATIENCE_S)
    assert [fake.counts for fake in fakes] == [[7], [1, 1, 1]]


def test_after_an_error_it_is_free_again() -> None:
    def fail(count: int) -> None:
        if count == 7:
            raise ValueError("seven")

    fakes = [Fake(fail), Fake(fail)]
    both = replicas(*fakes)
    with pytest.raises(ValueError, match=r"^seven$"):
        both.logits(make_images(7))
    both.logits(make_images(1))
    assert [fake.counts for fake in fakes] == [[7, 1], []]


def test_a_detector_on_two_gpus(gpus: dict[int, float], calibrated: Bundle) -> None:
    images = make_images(200)
    found = Detector.open(calibrated.path, device="cuda:0,1")
    assert len(found.ensembles) == 2
    assert found.execution_path == ExecutionPath(provider=CUDA)
    expected = Detector.open(calibrated.path, device="cpu")
    np.testing.assert_array_equal(found.classify(images).score, expected.classify(images).score)


@pytest.mark.parametrize("odd", [0, 1])
def test_the_probes_run_on_each(gpus: dict[int, float], calibrated: Bundle, odd: int) -> None:
    """A calibration that does not hold on one of the GPUs is refused; what is told is of the one that is worse."""
    gpus[odd] = 2e-5
    detector = Detector.open(calibrated.path, device="cuda:all")
    assert detector.deviation is not None
    assert detector.deviation.logits == pytest.approx(2e-5, rel=0.1)
    gpus[odd] = 1e-2
    with pytest.raises(CalibrationError, match="the logits of a probe differ"):
        Detector.open(calibrated.path, device="cuda:all")
