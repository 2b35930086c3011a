"""An attacker who knows a design: wrong answers in every part of which half of the clean images are lower.

He is stronger than one who only wants to get past a threshold, and so fit for an AUC: whoever stops at the threshold
that flags 5 % has an AUC of 0.95 though nothing of his is flagged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.score_designs import Design, View
from detector.prediction import Ints
from training.attacks import MIM
from training.attacks.objective import Objective, Untargeted

WEIGHTS: Final = (1.0, 10.0, 0.1)
_CONFIDENCE: Final = 0.1


class Viewed(nn.Module):
    """An ensemble that answers to an image and to its views: (N, C, H, W) to (N, V * K, L) logits."""

    def __init__(self, ensemble: nn.Module, views: Sequence[View]) -> None:
        super().__init__()
        self._ensemble, self._views = ensemble, views

    def forward(self, images: Tensor) -> Tensor:
        """The image first."""
        answers = [self._ensemble(images), *(self._ensemble(view.twin(images)) for view in self._views)]
        return torch.cat(answers, dim=1)


@dataclass(frozen=True)
class Passing(Objective):
    """Another class, with every part at least what half of the clean images have.

    Attributes:
        labels: (N,) int64, to leave.
        design: Whose parts.
        medians: Of each part, over clean images.
        spreads: Half of what lies between the quartiles; the parts' units.
        weight: Of the parts, against the margin.
        count: V.
    """

    design: Design
    medians: Sequence[float]
    spreads: Sequence[float]
    weight: float
    count: int

    def loss(self, logits: Tensor) -> Tensor:
        """Minus what falls short."""
        return -self.shortfall(logits, _CONFIDENCE)

    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """The margin, and the parts'."""
        each = logits.chunk(self.count, dim=1)
        goal = Untargeted(self.labels)
        heading, total = goal.heading(each[0]), goal.shortfall(each[0], confidence)
        for part, median, spread in zip(self.design.parts, self.medians, self.spreads, strict=True):
            total = total + self.weight * (median - part.twin(each, heading)).clamp(min=0) / spread
        return total

    def succeeded(self, logits: Tensor) -> Tensor:
        """Where nothing falls short."""
        return self.shortfall(logits) == 0

    def heading(self, logits: Tensor) -> Tensor:
        """Of the image itself."""
        return Untargeted(self.labels).heading(logits.chunk(self.count, dim=1)[0])

    def only(self, chosen: Tensor) -> Self:
        """For some of the images."""
        return replace(self, labels=self.labels[chosen])


def aimed(
    design: Design, ensemble: nn.Module, views: Sequence[View], images: Tensor, labels: Tensor, rows: Ints,
    *, eps: float, steps: int,
) -> list[Tensor]:  # fmt: skip
    """Attacked images, once for each weight: MIM, in steps of a tenth of the radius.

    Args:
        design: What is known.
        ensemble: (N, C, H, W) to (N, K, L) logits.
        views: All of them.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64, true.
        rows: (N,), what random draws are keyed by.
        eps: In units of [0, 1] pixels.
        steps: How many.
    """
    usual = [part.of(design.clean) for part in design.parts]
    quartiles = [np.quantile(values, (0.25, 0.5, 0.75)).tolist() for values in usual]
    needed = design.runs > 1
    seen = Viewed(ensemble, views if needed else ())
    found = []
    for weight in WEIGHTS:
        wanted = Passing(
            labels, design, [median for _, median, _ in quartiles],
            [max((high - low) / 2, 1e-6) for low, _, high in quartiles], weight, 1 + len(views) if needed else 1,
        )  # fmt: skip
        attack = MIM(eps=eps, steps=steps, step_size=eps / 10)
        found.append(attack.perturb(seen, images, wanted, rows))
    return found
