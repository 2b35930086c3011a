"""Projected gradient descent: the basic iterative method from random starts."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from detector.prediction import Ints
from training.attacks.attack import Progress, check_count, silent
from training.attacks.draws import uniform
from training.attacks.linf import IteratedAttack
from training.attacks.objective import Objective


@dataclass(frozen=True, kw_only=True)
class PGD(IteratedAttack):
    """BIM from a uniformly random point of the ball, Section 2.2 of the paper, perhaps several times.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.
    Other attributes and errors: see `IteratedAttack`.

    Attributes:
        restarts: How many starts, at least 1. Of an image, the last iterate of the first start that succeeded
            is returned; where none did, that of the start that climbed highest.
        seed: Of the starting points, at least 0. An image's is drawn from (seed, its source index),
            so that it does not depend on the batch.
    """

    method: ClassVar[str] = "pgd"

    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("restarts", self.restarts)
        check_count("seed", self.seed, least=0)

    @property
    def name(self) -> str:
        """As in `pgd10-0.1`, or `pgd10x5-0.1` with five starts."""
        return super().name if self.restarts == 1 else super().name.replace("-", f"x{self.restarts}-", 1)

    def start(self, images: Tensor, rows: Ints) -> Tensor:
        """A uniformly random point of the ball, each image's from its own draws."""
        return images + self.eps * uniform(images, rows, seed=self.seed, purpose="pgd")

    def perturb(
        self, ensemble: nn.Module, images: Tensor, objective: Objective, rows: Ints, *, progress: Progress = silent
    ) -> Tensor:
        """One climb from each start, for those images that earlier ones did not fool."""
        climb = super().perturb
        if self.restarts == 1:
            return climb(ensemble, images, objective, rows, progress=progress)
        best = images.clone()
        highest = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
        left = torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            if not len(left):
                break
            once = replace(self, restarts=1, seed=self.seed + restart)
            wanted, places = objective.only(left), np.asarray(rows)[left.cpu().numpy()]
            found = once.perturb(
                ensemble, images[left], wanted, places,
                progress=lambda share, done=restart: progress((done + share) / self.restarts),  # type: ignore[misc]
            )  # fmt: skip
            with torch.no_grad():
                logits = ensemble(found)
                succeeded, reached = wanted.succeeded(logits), wanted.loss(logits)
            reached[succeeded] = torch.inf
            higher = reached > highest[left]
            best[left[higher]], highest[left[higher]] = found[higher], reached[higher]
            left = left[~succeeded]
        progress(1.0)
        return best
