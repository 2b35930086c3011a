"""One update of the weights: images are varied, gradients found, and the optimiser takes a step.

Compiled and on a GPU, all of it is recorded and replayed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.augment import AUGMENTATIONS
from training.config import TrainConfig
from training.ensemble import Ensemble
from training.feed import floats
from training.growth import shrink
from training.optimiser import build_optimiser, set_learning_rates
from training.parallel import Group
from training.recording import Recording
from training.step import Step, half_attacked


class Update:
    """The ensemble, its optimiser, and how a batch moves them.

    Args:
        ensemble: On the device where it learns.
        config: The settings.
        group: The processes that train together.
    """

    def __init__(self, ensemble: Ensemble, config: TrainConfig, group: Group | None = None) -> None:
        self._ensemble = ensemble
        self._config = config
        self._group = group or Group()
        self._device = next(ensemble.parameters()).device
        on_gpu = self._device.type == "cuda"
        # Other processes' gradients, an attack's progress and the state before a first pass are looked at between.
        whole = self._group.size == 1 and config.adversarial == "none" and not config.sequential
        recorded = on_gpu and config.compile and whole
        # How the units that compute in bfloat16 want images and kernels; in float32 the other way is faster.
        self._format = torch.channels_last if on_gpu and config.precision == "bfloat16" else torch.contiguous_format
        ensemble.to(memory_format=self._format)
        self.optimiser = build_optimiser(ensemble.members, config, recorded=recorded)
        self._step = Step(ensemble, config)
        self._run = Recording(self._take) if recorded else self._take

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        table: NDArray[Any],
        *,
        done: float,
        size: tuple[int, int],
        frozen: frozenset[int] = frozenset(),
        classes: Tensor | None = None,
        rows: NDArray[np.int64] | None = None,
        key: tuple[int, int, int] = (0, 0, 0),
    ) -> Tensor:
        """Takes one.

        Args:
            images: (N, C, H, W), uint8 or float32 in [0, 1], on the device.
            labels: (N,) int64, on the device.
            table: (N, draws) float32 in [0, 1), of the augmentation.
            done: The share of the run that is done, in [0, 1).
            size: Height and width to learn at.
            frozen: Members that no longer learn, in evaluation mode.
            classes: (N, m) int64, what the entropy is taken over; None for all.
            rows: (N,), what attacks on the images are keyed by; only for adversarial training.
            key: Seed, epoch and step, likewise.

        Returns:
            (4,) float64, see `training.step.Step`.
        """
        set_learning_rates(self.optimiser, self._config, done)
        draws = torch.from_numpy(table).to(self._device, non_blocking=True)
        tensors = [images, labels, draws, *([] if classes is None else [classes])]
        attack = None if self._config.adversarial == "none" else (rows, key)
        return self._run(*tensors, size=size, frozen=frozen, attack=attack)

    def _take(
        self,
        images: Tensor,
        labels: Tensor,
        draws: Tensor,
        classes: Tensor | None = None,
        *,
        size: tuple[int, int],
        frozen: frozenset[int],
        attack: tuple[Any, tuple[int, int, int]] | None = None,
    ) -> Tensor:
        """All of it, from tensors alone."""
        images = shrink(AUGMENTATIONS[self._config.augment].vary(floats(images), draws), size)
        if attack is not None:
            rows, key = attack
            images = half_attacked(self._ensemble, images, labels, rows, adversary=self._config.adversarial, key=key)
        images = images.contiguous(memory_format=self._format)
        terms = self._step(images, labels, frozen=frozen, classes=classes)
        self._group.average(self._ensemble.parameters())
        self.optimiser.step()
        return terms
