"""Probes recognise another execution path: within the tolerance it is let in, beyond it not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.detector import Detector
from detector.device import ExecutionPath
from detector.ensemble import Ensemble
from detector.errors import CalibrationError, InputError
from detector.imageset import ImageSet
from detector.probes import COUNT, LOGIT_TOLERANCE, TOLERANCE, Probes
from detector.targets import Explicit
from detector.verdicts import Verdicts
from tests.conftest import CLASSES, MEMBERS, make_images

ELSEWHERE = ExecutionPath(provider="CUDAExecutionProvider", tf32=True)


class FakeJudge:
    """Answers with given scores, on another path."""

    execution_path = ELSEWHERE

    def __init__(self, scores: NDArray[np.float64] | None, offset: float = 0.0) -> None:
        self.scores = scores
        self.offset = offset

    def logits(self, images: Any) -> NDArray[np.float32]:
        return np.full((len(images), MEMBERS, CLASSES), self.offset, dtype=np.float32)

    def judge(self, logits: Any) -> Verdicts:
        if self.scores is None:
            raise InputError("logits: expected finite numbers, found nan")
        nothing = np.zeros(len(logits))
        return Verdicts(
            labels=nothing.astype(np.int64), class_names=("",) * len(logits), probabilities=nothing[:, None],
            log_diversity=self.scores, score=self.scores, p_values=None, adversarial=None,
        )  # fmt: skip


def probes_with(scores: NDArray[np.float64]) -> Probes:
    logits = np.zeros((len(scores), MEMBERS, CLASSES), dtype=np.float32)
    return Probes(images=make_images(len(scores)), logits=logits, scores=scores)


@pytest.fixture
def calibration(calibrated: Bundle) -> Calibration:
    assert calibrated.calibration is not None
    return calibrated.calibration


SCORES = np.array([-np.inf, -30.0, -3.0, -0.5, -1e-6, 0.0])


@pytest.mark.parametrize("direction", [1, -1])
def test_the_tolerance_is_relative_above_one(calibration: Calibration, direction: int) -> None:
    room = TOLERANCE * np.maximum(1, np.abs(np.where(np.isfinite(SCORES), SCORES, 0))) * direction
    probes = probes_with(SCORES)
    probes.check(FakeJudge(SCORES + 0.99 * room), calibration)
    for index in range(1, len(SCORES)):
        moved = SCORES.copy()
        moved[index] += 1.01 * room[index]
        with pytest.raises(CalibrationError, match="1 of 6 probes differ: score moved by up to "):
            probes.check(FakeJudge(moved), calibration)


def test_a_flag_that_turns_is_refused_within_the_tolerance(calibration: Calibration) -> None:
    at = calibration.threshold
    assert at is not None
    probes = probes_with(np.array([at, at + 0.5 * TOLERANCE, at - 0.5 * TOLERANCE]))
    probes.check(FakeJudge(probes.scores), calibration)
    for scores in ([at - 1e-9, *probes.scores[1:]], [at, at + 1e-9, at]):
        with pytest.raises(CalibrationError, match=r"1 of 3 probes differ: .* 1 of 3 flags turned"):
            probes.check(FakeJudge(np.array(scores)), calibration)


def test_logits_that_move_are_refused_though_the_scores_stay(calibration: Calibration) -> None:
    """As where log diversity is close to 0, and hardly moves."""
    probes = probes_with(SCORES)
    probes.check(FakeJudge(SCORES, 0.9 * LOGIT_TOLERANCE), calibration)
    moved = FakeJudge(SCORES, 1.1 * LOGIT_TOLERANCE)
    with pytest.raises(
        CalibrationError,
        match=r"the logits of a probe differ: score moved by up to 0, logits by up to 0\.00011, 0 of 6 flags",
    ):
        probes.check(moved, calibration)
    old = calibration.probes.model_copy(update={"logit_tolerance": None})
    probes.check(moved, calibration.model_copy(update={"probes": old}))  # of format 1


@pytest.mark.parametrize(("recorded", "found"), [(-np.inf, -50.0), (-50.0, -np.inf), (-1.0, np.nan), (-1.0, None)])
def test_infinity_equals_itself_only_and_nan_nothing(
    calibration: Calibration, recorded: float, found: float | None
) -> None:
    probes = probes_with(np.array([recorded]))
    judge = FakeJudge(None if found is None else np.array([found]))
    with pytest.raises(CalibrationError) as caught:
        probes.check(judge, calibration)
    expected = (
        "calibration: made on CPUExecutionProvider float32, does not hold on CUDAExecutionProvider float32 tf32: "
    )
    assert str(caught.value).startswith(expected)
    assert "ledgate calibrate BUNDLE --device" in str(caught.value)


def test_without_probes_only_the_same_path_is_let_in(calibration: Calibration) -> None:
    probes = probes_with(np.zeros(0))
    with pytest.raises(CalibrationError, match="it has no probes to compare"):
        probes.check(FakeJudge(np.zeros(0)), calibration)
    judge = FakeJudge(np.zeros(0))
    judge.execution_path = calibration.execution_path
    probes.check(judge, calibration)


def test_the_same_path_is_accepted(calibrated: Bundle) -> None:
    for threads in (1, 2):
        detector = Detector.open(calibrated.path, device="cpu", threads=threads)
        assert detector.bundle.probes is not None
        assert len(detector.bundle.probes.images) == COUNT


def perturb(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Members that answer a little otherwise, as in other arithmetic."""
    run = Ensemble.logits

    def logits(self: Ensemble, images: Any) -> NDArray[np.float32]:
        answer = run(self, images)
        noise = np.random.default_rng(0).uniform(-size, size, size=answer.shape[1:]).astype(np.float32)
        return np.asarray(answer + noise, dtype=np.float32)

    monkeypatch.setattr(Ensemble, "logits", logits)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-5])
def test_rounding_is_let_in(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    perturb(monkeypatch, size)
    Detector.open(calibrated.path, device="cpu", threads=1)


@pytest.mark.parametrize("size", [1e-3, 1e-2, 1.0, np.nan])
def test_other_arithmetic_is_not(calibrated: Bundle, monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    perturb(monkeypatch, 1.0 if np.isnan(size) else size)
    if np.isnan(size):
        answer = np.full((COUNT, MEMBERS, CLASSES), np.nan, dtype=np.float32)
        monkeypatch.setattr(Ensemble, "logits", lambda self, images: answer[: len(images)])
    with pytest.raises(CalibrationError, match=r"does not hold on .*; calibrate on this device: ledgate calibrate"):
        Detector.open(calibrated.path, device="cpu", threads=1)


def test_the_choice_spreads_and_keeps_off_the_threshold() -> None:
    scores = -np.random.default_rng(0).exponential(size=1000)
    threshold = float(np.quantile(scores, 0.05))
    images, logits = make_images(1000), np.zeros((1000, MEMBERS, CLASSES), dtype=np.float32)
    chosen = Probes.choose(images.__getitem__, logits, scores, np.full(1000, threshold))
    assert len(chosen.images) == len(chosen.logits) == len(chosen.scores) == COUNT
    assert chosen.scores[0] == scores.min()
    assert chosen.scores[-1] == scores.max()
    assert (np.abs(chosen.scores - threshold) > TOLERANCE * max(1, abs(threshold))).all()
    ranks = np.searchsorted(np.sort(scores), chosen.scores)
    assert np.diff(ranks).max() < 2 * 1000 / COUNT
    for image, score in zip(chosen.images, chosen.scores, strict=True):
        np.testing.assert_array_equal(image, images[np.flatnonzero(scores == score)[0]])


@pytest.mark.parametrize(
    ("scores", "threshold", "left"),
    [([-1.0] * 5, -1.0, 0), ([-np.inf] * 5, -np.inf, 0), ([-np.inf] * 5, -1.0, 5), ([-1.0, -2.0], -1.0, 1)],
)
def test_few_or_none_are_left(scores: list[float], threshold: float, left: int) -> None:
    logits = np.zeros((len(scores), MEMBERS, CLASSES), dtype=np.float32)
    chosen = Probes.choose(
        make_images(len(scores)).__getitem__, logits, np.array(scores), np.full(len(scores), threshold)
    )
    assert len(chosen.scores) == left


def test_a_bundle_without_probes_opens_on_its_own_path(bundle: Bundle) -> None:
    images = np.repeat(make_images(1), 20, axis=0)  # one score, which is the threshold
    clean = ImageSet(images=images, source_index=np.arange(20))
    score = calibrate(bundle.path, clean=clean, target=Explicit(-1.0), device="cpu").clean_scores[0]
    calibrate(bundle.path, clean=clean, target=Explicit(score), device="cpu")
    detector = Detector.open(bundle.path, device="cpu", threads=1)
    assert detector.bundle.probes is not None
    assert len(detector.bundle.probes.scores) == 0


def test_round_trip(tmp_path: Path) -> None:
    probes = probes_with(SCORES)
    probes.save(tmp_path / "probes.npz")
    found = Probes.parse((tmp_path / "probes.npz").read_bytes(), tmp_path / "probes.npz")
    for name in ("images", "logits", "scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(probes, name))
