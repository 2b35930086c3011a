"""Projected gradient descent: the basic iterative method from a random start."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from detector.errors import InputError
from detector.prediction import Ints
from training.attacks.linf import IteratedAttack
from training.seeds import generator


@dataclass(frozen=True, kw_only=True)
class PGD(IteratedAttack):
    """BIM from a uniformly random point of the ball, Section 2.2 of the paper.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    Other attributes and errors: see `IteratedAttack`.

    Attributes:
        seed: Of the starting points, at least 0. An image's is drawn from (seed, its source index),
            so that it does not depend on the batch.
    """

    method: ClassVar[str] = "pgd"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed < 0:
            raise InputError(f"seed: expected at least 0, found {self.seed}")

    def start(self, images: Tensor, rows: Ints) -> Tensor:
        """A uniformly random point of the ball, each image's from its own draws."""
        shape = tuple(images.shape[1:])
        draws = [generator(self.seed, "pgd", int(row)).uniform(-self.eps, self.eps, shape) for row in rows]
        return images + torch.from_numpy(np.stack(draws)).to(images)
