"""pytorch-ood: Mahalanobis distances of hidden features, to the nearest class and relative to all of them.

Sources: Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
2018; Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021. The features are the
last hidden ones of all members, side by side; the library knows of no ensembles.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pytorch_ood.detector import RMD, Mahalanobis
from torch import Tensor

from benchmarks.peers.detectors.detector import Case, Detector
from detector.imageset import ImageSet
from detector.prediction import Floats
from training.detection.subject import Subject
from training.evaluation.hidden import hidden_features
from training.execution import reproducible
from training.precision import full_float32


class _Features:
    """The features of sets of images, kept for the second detector that asks for them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._kept: dict[int, tuple[ImageSet, Tensor]] = {}

    def of(self, images: ImageSet) -> Tensor:
        """(N, D) float32."""
        if id(images) not in self._kept:
            victim = self._subject.victim
            with reproducible(self._subject.threads, victim.device), full_float32():
                members = range(len(victim.ensemble.members))
                parts = [hidden_features(victim.ensemble, images, member) for member in members]
            assert all(part is not None for part in parts), "pytorch-ood: expected networks that end in a linear layer"
            # The images stay with them, so that no other's take their id.
            self._kept[id(images)] = images, torch.from_numpy(np.concatenate(parts, axis=1))  # type: ignore[arg-type]
        return self._kept[id(images)][1]


class _Distance(Detector):
    """One of the library's detectors on features."""

    def __init__(self, found: Any, features: _Features, train: ImageSet) -> None:
        self.fitted_on = f"{len(train):,} training images with labels"
        self._found, self._features = found, features
        found.fit_features(features.of(train), torch.from_numpy(np.asarray(train.labels)))

    def score(self, images: ImageSet) -> Floats:
        """Minus its outlier score."""
        return -np.asarray(self._found.predict_features(self._features.of(images)), dtype=np.float64)


def make(case: Case) -> Mapping[str, Callable[[], Detector]]:
    """Both."""
    features = _Features(case.subject)
    return {
        "pytorch-ood: Mahalanobis": lambda: _Distance(Mahalanobis(None), features, case.train),
        "pytorch-ood: relative Mahalanobis": lambda: _Distance(RMD(None), features, case.train),
    }
