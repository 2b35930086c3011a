"""What is run before a bundle is served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.device import CPU, CUDA, ExecutionPath
from serving.opening import Opener


class Running:
    """In the place of a detector, and of its only ensemble: answers zeros, and notes the sizes of batches."""

    deviation = None

    def __init__(self, provider: str) -> None:
        self.execution_path = ExecutionPath(provider=provider)
        self.ensembles = (self,)
        self.sizes: list[int] = []

    def __call__(self, *_: object, **__: object) -> "Running":
        return self

    def logits(self, images: Any) -> Any:
        self.sizes.append(len(images))
        return np.zeros((len(images), 3, 10), np.float32)


@pytest.mark.parametrize(
    ("provider", "max_batch", "sizes"),
    [
        (CPU, 32, [1, 32]),
        (CPU, 1, [1]),
        (CUDA, 1, [1]),
        (CUDA, 32, [1, 2, 4, 8, 16, 32]),
        (CUDA, 40, [1, 2, 4, 8, 16, 32, 40]),
        (CUDA, 63, [1, 2, 4, 8, 16, 32, 63]),
    ],
)
def test_the_sizes_of_batches_that_are_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, provider: str, max_batch: int, sizes: list[int]
) -> None:
    running = Running(provider)
    monkeypatch.setattr("serving.opening.Detector", running)
    Opener(max_batch=max_batch).ready(Bundle.open(folder / "tiny"))
    assert running.sizes == sizes
