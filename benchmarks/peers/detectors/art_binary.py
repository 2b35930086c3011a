"""ART's binary detector: a network that is trained to tell clean from attacked images of one attack.

Source: Metzen et al., "On Detecting Adversarial Perturbations", 2017, in the library's version on inputs. One is
trained on each attack, and judged on all: on its own it knows what will come, on the others it does not.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
import torch
from art.defences.detector.evasion import BinaryInputDetector
from art.estimators.classification import PyTorchClassifier
from torch import nn

from benchmarks.peers.detectors.detector import Case, Detector
from detector.imageset import ImageSet, as_floats
from detector.prediction import Floats
from training.detection.tables import name

_EPOCHS: Final = 40
_BATCH: Final = 32
_RATE: Final = 1e-3


class _Binary(Detector):
    """The detector of one attack."""

    def __init__(self, method: str, case: Case) -> None:
        shown, seed = case.shown[method](), case.seed
        self.fitted_on = f"{len(shown):,} validation images, clean and under {name(method)}"
        self.seen = (method,)
        assert shown.clean is not None
        clean, attacked = as_floats(shown.clean), as_floats(shown.images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)  # where the library shuffles from
            np.random.seed(seed)  # noqa: NPY002
            network = _network(clean.shape[1])
            classifier = PyTorchClassifier(
                network, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam(network.parameters(), lr=_RATE),
                input_shape=clean.shape[1:], nb_classes=2, clip_values=(0.0, 1.0), device_type="cpu",
            )  # fmt: skip
            self._found = BinaryInputDetector(classifier)
            is_attacked = np.repeat(np.arange(2), len(clean))
            self._found.fit(np.concatenate([clean, attacked]), is_attacked, batch_size=_BATCH, nb_epochs=_EPOCHS)

    def score(self, images: ImageSet) -> Floats:
        """How far the clean class's output is ahead."""
        report, _ = self._found.detect(as_floats(images.images))
        outputs = np.asarray(report["predictions"], dtype=np.float64)
        return np.asarray(outputs[:, 0] - outputs[:, 1])


def _network(channels: int) -> nn.Module:
    """A small one; the library leaves it to its user."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 2),
    )  # fmt: skip


def make(case: Case) -> Mapping[str, Callable[[], Detector]]:
    """One for each attack."""
    return {f"art: binary detector, shown {name(method)}": partial(_Binary, method, case) for method in case.shown}
