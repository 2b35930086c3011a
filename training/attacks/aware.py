"""An attacker who knows the detector: any attack, aimed at images that are wrong *and* pass for honest.

The objective of the attack it is built on gets a second part, how far the score is below the threshold. How much
that part weighs is searched for each image: too little, and the image is flagged; too much, and it stays what it is.

A detector is only as good as the best attack on it that was tried, so this one is never content with less than what is
to be had: it begins with what the plain attack finds; within a ball it looks from many starts, in steps that shrink, at
every image that it comes through; and an image counts by the score itself, not by its twin.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import InputError, SettingError
from detector.outputs import Outputs
from detector.prediction import Ints
from detector.scores.score import Score
from detector.threshold import Threshold
from training.attacks.attack import Attack, Progress, check_count, check_positive, silent
from training.attacks.batches import any_batch_size
from training.attacks.draws import uniform
from training.attacks.linf import IteratedAttack, LinfAttack, ball, reported
from training.attacks.objective import AsInPaper, Objective
from training.attacks.pgd import PGD
from training.attacks.saliency import SaliencyAttack
from training.attacks.surrogates import surrogate
from training.attacks.unseen import ROOM, Unseen, least

WEIGHTS: Final = (1.0, 0.1, 10.0, 0.01, 3.0, 0.3, 30.0, 0.03)
# Of a search within a ball, how far its first step goes, as a share of the radius; its last one is close to 0.
_FIRST_STEP: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class DetectorAware(Attack):
    """An attack that wants to be wrong and not flagged.

    Of each image it returns the first that it finds to be both, by the score itself; what the attack it is built on
    finds without knowing of the detector is looked at first, so that it never does worse. Where there is none, it
    returns what that one found, or the input where that one looks for the smallest change.

    Attributes:
        attack: What it is built on: one that descends an objective, such as `PGD`, `MIM` or `CarliniWagner`. Of those
            that take several steps within a ball, radius, number of steps and momentum are taken; the steps themselves
            shrink from half the radius to nothing, and start anywhere in the ball.
        score: The score of the calibration, fitted where it has to be.
        threshold: Of the calibration, for all images or by predicted class.
        weights: Of the score's part, tried in this order.
        restarts: How often all weights are tried within a ball, at least 1, each from a start of its own; times
            the restarts of the `PGD` that it is built on.

    Raises:
        InputError: No weight, one that is not above 0, or no start.
    """

    method: ClassVar[str] = "aware"

    attack: Attack
    score: Score
    threshold: Threshold
    weights: tuple[float, ...] = WEIGHTS
    restarts: int = 2

    def __post_init__(self) -> None:
        if not self.weights:
            raise SettingError("weights: expected at least one, found none")
        for weight in self.weights:
            check_positive("weights", weight)
        check_count("restarts", self.restarts)

    @property
    def name(self) -> str:
        """As in `aware-pgd10-0.1`; the score where it is not log diversity."""
        score = "" if self.score.name == "log_diversity" else f"-of-{self.score.name}"
        return f"{self.method}{score}-{self.attack.name}"

    @property
    def attempts(self) -> int:
        """How often, at most, an image is attacked in the knowledge of the detector.

        Saliency maps know no weights: one goes on until an image passes, and that is all there is to it.
        """
        if isinstance(self.attack, SaliencyAttack):
            return 1
        rounds = 1
        if isinstance(self.attack, IteratedAttack):
            rounds = self.restarts * (self.attack.restarts if isinstance(self.attack, PGD) else 1)
        return rounds * len(self.weights)

    def perturb(
        self, ensemble: nn.Module, images: Tensor, objective: Objective, rows: Ints, *, progress: Progress = silent
    ) -> Tensor:
        """See `Attack.perturb`.

        Raises:
            InputError: The paper's protocol, which has a loss of its own.
        """
        if isinstance(objective, AsInPaper):
            raise InputError("aware: expected the label's loss, found the paper's protocol, which knows no detector")
        share = 1 / (1 + self.attempts)
        plain = self.attack.perturb(ensemble, images, objective, rows, progress=partial(_part, progress, 0, share))
        with torch.no_grad():
            logits = ensemble(plain)
        unseen = self._unseen(objective, logits)
        kept = _Kept.none(self, unseen, images)
        kept(plain, logits)
        # Attacks that look for the smallest change return the input where they fail; what passes without room to spare
        # is no failure yet.
        best = plain.clone()
        if not isinstance(self.attack, LinfAttack):
            best = torch.where(_by_image(self.reached(objective, logits)), plain, images)
        left = (~kept.passed).nonzero().flatten()
        for attempt in range(self.attempts):
            if not len(left):
                break
            wanted = unseen.only(left).weighing(self.weights[attempt % len(self.weights)])
            places = np.asarray(rows)[left.cpu().numpy()]
            kept = _Kept.none(self, wanted, images[left])
            with any_batch_size():
                self._attempt(
                    attempt, ensemble, images[left], kept, start=plain[left] if attempt == 0 else None, rows=places,
                    progress=partial(_part, progress, 1 + attempt, share),
                )  # fmt: skip
            best[left] = torch.where(_by_image(kept.passed), kept.found, best[left])
            left = left[~kept.passed]
        progress(1.0)
        return best

    def _unseen(self, objective: Objective, logits: Tensor) -> Unseen:
        """What is wanted, with the score's part weighing 1; of the logits, how many classes there are and where."""
        limits = torch.from_numpy(least(self.threshold, np.arange(logits.shape[2]))).to(logits.device)
        twin = surrogate(self.score, logits.device)
        return Unseen(objective.labels, objective, twin, limits, torch.ones_like(limits[objective.labels]))

    def _attempt(
        self,
        number: int,
        ensemble: nn.Module,
        images: Tensor,
        kept: "_Kept",
        *,
        start: Tensor | None,
        rows: Ints,
        progress: Progress,
    ) -> None:
        """One weight, from one start, which is drawn where there is none; what passes is kept."""
        if not isinstance(self.attack, IteratedAttack):
            last = self.attack.perturb(ensemble, images, kept.wanted, rows, progress=progress)
        else:
            eps, steps = self.attack.eps, self.attack.steps
            if start is None:
                seed = number + (self.attack.seed if isinstance(self.attack, PGD) else 0)
                start = images + eps * uniform(images, rows, seed=seed, purpose=self.method)
            strides = [_FIRST_STEP * eps * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
            last = self.attack.climb(
                ensemble, start, ball(images, eps), kept.wanted, reported(strides, progress), watch=kept
            )
        with torch.no_grad():
            kept(last, ensemble(last))

    def reached(self, objective: Objective, logits: Tensor) -> Tensor:
        """Those that are as wanted and not flagged; see `Attack.reached`."""
        flags = torch.from_numpy(self.flags(logits.float().cpu().numpy())).to(logits.device)
        return objective.succeeded(logits) & ~flags

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
            "restarts": self.restarts,
        }


@dataclass
class _Kept:
    """Of each image the first that it was shown that is as wanted and passes, by the score itself.

    Attributes:
        attack: Whose score and threshold they are.
        wanted: What is wanted, by the score's twin.
        found: (N, C, H, W), the first; whatever was there where none has passed.
        passed: (N,) bool.
    """

    attack: DetectorAware
    wanted: Unseen
    found: Tensor
    passed: Tensor

    @classmethod
    def none(cls, attack: DetectorAware, wanted: Unseen, images: Tensor) -> "_Kept":
        """Nothing yet."""
        return cls(attack, wanted, images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device))

    def __call__(self, images: Tensor, logits: Tensor) -> bool:
        """Looks at N images with their logits; says whether all have passed now or before."""
        # The twin chooses on the device which are worth asking the score about, all of them on the CPU but few. With
        # room, so that rounding on another execution path changes nothing.
        new = (~self.passed & (self.wanted.shortfall(logits, ROOM) == 0)).nonzero().flatten()
        if not len(new):
            return False
        outputs = Outputs(logits[new].float().cpu().numpy())
        passed = self.attack.score.measure(outputs) >= least(self.attack.threshold, outputs.labels)
        new = new[torch.from_numpy(passed).to(new.device)]
        self.found[new], self.passed[new] = images[new], True
        return bool(self.passed.all())


def _by_image(chosen: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return chosen[:, None, None, None]


def _part(progress: Progress, done: int, each: float, share: float) -> None:
    """Tells the share of all the work from that of one of its equal parts."""
    progress((done + share) * each)
