"""An attacker who knows the detector: any attack, aimed at images that are wrong *and* pass for honest.

The objective of the attack it is built on gets a second part, how far the score is below the threshold. How much
that part weighs is searched for each image: too little, and the image is flagged; too much, and it stays what it is.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import InputError
from detector.outputs import Outputs
from detector.prediction import Ints
from detector.scores.score import Score
from detector.threshold import Threshold
from training.adp import log_mean
from training.attacks.attack import Attack, Progress, check_positive, silent
from training.attacks.objective import AsInPaper, Objective
from training.attacks.surrogates import Surrogate, surrogate

# How far above the threshold, relative to it, counts as passed: room for the last bits of another execution path.
_ROOM: Final = 1e-3
# By how much the margin of log F is to be on the wrong side before it is left alone.
_CONFIDENCE: Final = 0.1
WEIGHTS: Final = (1.0, 10.0, 0.1, 100.0, 0.01)


@dataclass(frozen=True)
class Unseen(Objective):
    """What another objective wants, by images whose score is not below the threshold.

    Attributes:
        labels: (N,) int64, the other objective's.
        goal: The other objective.
        score: The score's twin.
        threshold: Below which an image is flagged.
        weights: (N,) float64, of the score's part.
    """

    goal: Objective
    score: Surrogate
    threshold: Threshold
    weights: Tensor

    def loss(self, logits: Tensor) -> Tensor:
        """Minus what falls short: of the goal until it is reached, and of the threshold."""
        return -self.shortfall(logits, _CONFIDENCE)

    def shortfall(self, logits: Tensor, confidence: float = 0.0) -> Tensor:
        """The goal's, and the weighted distance of the score to the threshold."""
        missing = (self._least(logits) - self.score(logits)).clamp(min=0)
        return self.goal.shortfall(logits, confidence) + self.weights * missing

    def succeeded(self, logits: Tensor) -> Tensor:
        """Where the goal is reached and the twin passes."""
        return self.goal.succeeded(logits) & (self.score(logits) >= self._least(logits))

    def only(self, chosen: Tensor) -> Self:
        """The same for some of the images."""
        return replace(self, labels=self.labels[chosen], goal=self.goal.only(chosen), weights=self.weights[chosen])

    def _least(self, logits: Tensor) -> Tensor:
        """The score to reach, by the predicted class: (N,) float64."""
        limits = self.threshold.limits(log_mean(logits.detach()).argmax(dim=1).cpu().numpy())
        return torch.from_numpy(limits + _ROOM * np.maximum(1, np.abs(limits))).to(logits.device)


@dataclass(frozen=True, kw_only=True)
class DetectorAware(Attack):
    """An attack that wants to be wrong and not flagged.

    Of each image it returns the first result, over the weights, that is both, by the score itself; where there is
    none, the first that is wrong; and else the last.

    Attributes:
        attack: What it is built on: one that descends an objective, such as `PGD`, `MIM` or `CarliniWagner`.
        score: The score of the calibration, fitted where it has to be.
        threshold: Of the calibration, for all images or by predicted class.
        weights: Of the score's part, tried in this order.

    Raises:
        InputError: No weight, or one that is not above 0.
    """

    method: ClassVar[str] = "aware"

    attack: Attack
    score: Score
    threshold: Threshold
    weights: tuple[float, ...] = WEIGHTS

    def __post_init__(self) -> None:
        if not self.weights:
            raise InputError("weights: expected at least one, found none")
        for weight in self.weights:
            check_positive("weights", weight)

    @property
    def name(self) -> str:
        """As in `aware-pgd10-0.1`; the score where it is not log diversity."""
        score = "" if self.score.name == "log_diversity" else f"-of-{self.score.name}"
        return f"{self.method}{score}-{self.attack.name}"

    def perturb(
        self, ensemble: nn.Module, images: Tensor, objective: Objective, rows: Ints, *, progress: Progress = silent
    ) -> Tensor:
        """See `Attack.perturb`.

        Raises:
            InputError: The paper's protocol, which has a loss of its own.
        """
        if isinstance(objective, AsInPaper):
            raise InputError("aware: expected the label's loss, found the paper's protocol, which knows no detector")
        best = images.clone()
        left = torch.arange(len(images), device=images.device)
        wrong = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for tried, weight in enumerate(self.weights):
            goal = objective.only(left)
            weights = torch.full((len(left),), weight, dtype=torch.float64, device=images.device)
            unseen = Unseen(goal.labels, goal, surrogate(self.score), self.threshold, weights)
            found = self.attack.perturb(
                ensemble, images[left], unseen, np.asarray(rows)[left.cpu().numpy()],
                progress=lambda share, tried=tried: progress((tried + share) / len(self.weights)),  # type: ignore[misc]
            )  # fmt: skip
            with torch.no_grad():
                logits = ensemble(found)
            reached = goal.succeeded(logits)
            passed = reached & ~torch.from_numpy(self.flags(logits.float().cpu().numpy())).to(reached.device)
            better = passed | ~wrong[left]
            best[left[better]] = found[better]
            wrong[left] |= reached
            left = left[~passed]
            if not len(left):
                break
        progress(1.0)
        return best

    def flags(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of (N, K, L) logits' images the detector flags: (N,) bool, by the score itself."""
        outputs = Outputs(logits)
        return self.threshold.flags(self.score.measure(outputs), outputs.labels)

    def describe(self) -> dict[str, Any]:
        """The settings as JSON, those of the attack it is built on inside."""
        return {
            "name": self.name,
            "method": self.method,
            "attack": self.attack.describe(),
            "score": self.score.name,
            "threshold": self.threshold.overall if self.threshold.by_class is None else list(self.threshold.by_class),
            "weights": list(self.weights),
        }
