"""A bundle made ready: every GPU is warm before anybody waits, and a calibration taken over is told of."""

import logging
from typing import Any

import pytest

from detector.bundle import Bundle
from detector.ensemble import Ensemble
from serving.opening import Opener


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which ensemble ran how many images, once the list has been cleared."""
    seen: list[tuple[int, int]] = []
    run = Ensemble.logits

    def noted(self: Ensemble, images: Any) -> Any:
        seen.append((id(self), len(images)))
        return run(self, images)

    monkeypatch.setattr(Ensemble, "logits", noted)
    return seen


def test_every_gpu_runs_every_size(gpus: dict[int, float], runs: list[tuple[int, int]], bundle: Bundle) -> None:
    detector = Opener(device="cuda:all", max_batch=6).ready(bundle)
    assert len(detector.ensembles) == 2
    for ensemble in detector.ensembles:
        assert sorted(count for one, count in runs if one == id(ensemble)) == [1, 2, 4, 6]


def test_how_far_probes_move_on_another_path_is_logged(
    gpus: dict[int, float], calibrated: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gpus[0] = 2e-5
    Opener(device="cuda").ready(calibrated)
    assert "linear on CUDAExecutionProvider float32: probes: score moved by up to " in caplog.text
    assert "logits by up to 2e-05, 0 of 32 flags turned" in caplog.text
    caplog.clear()
    Opener(device="cpu", threads=1).ready(calibrated)
    assert "probes" not in caplog.text
