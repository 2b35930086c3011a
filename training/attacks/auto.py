"""AutoAttack, the field's common figure: four attacks without settings, one after another, by a library.

Taken from `pyautoattack` as it is: its parts (APGD on the cross-entropy, targeted APGD on the DLR loss, targeted
FAB, Square) are what others report, and a second version of them would only differ.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.prediction import Ints
from training.adp import log_mean
from training.attacks.attack import Attack, Progress, check_count, check_distance, silent
from training.attacks.linf import ball
from training.attacks.objective import Objective, Untargeted

# The DLR loss compares the label's logit with the third and fourth largest.
_FEWEST_CLASSES: Final = 4
_TARGETS: Final = 9


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """AutoAttack, standard version, L-infinity, on the log of the averaged prediction.

    Source: Croce and Hein, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-Free Attacks", 2020. An image that one of the four fools is not attacked further; those that are
    wrong from the start, or that none fools, are returned as they came. Its random draws are the library's: an
    image's depend on the batch it is in.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.
        seed: Of all random draws, at least 0.

    Raises:
        InputError: eps outside (0, 1].
    """

    method: ClassVar[str] = "autoattack"

    eps: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_distance("eps", self.eps)
        check_count("seed", self.seed, least=0)

    @property
    def name(self) -> str:
        """As in `autoattack-0.03`."""
        return f"{self.method}-{self.eps:g}"

    def perturb(
        self,
        ensemble: nn.Module,
        images: Tensor,
        objective: Objective,
        rows: Ints,  # noqa: ARG002  the library draws by itself
        *,
        progress: Progress = silent,
    ) -> Tensor:
        """See `Attack.perturb`.

        Raises:
            InputError: An objective that is not `Untargeted`, since the losses are AutoAttack's own; or fewer than
                four classes.
        """
        from pyautoattack import AutoAttack as Standard  # a quarter of a second

        if type(objective) is not Untargeted:
            raise InputError("autoattack: expected to leave the true label, found another aim; its losses are its own")
        logits = _LogMean(ensemble)
        with torch.no_grad():
            classes = logits(images[:1]).shape[1]
        if classes < _FEWEST_CLASSES:
            raise InputError(f"autoattack: expected at least {_FEWEST_CLASSES} classes, found {classes}")
        with _quiet():
            attack = Standard(logits, eps=self.eps, seed=self.seed, device=images.device, version="standard")
            for part in (attack.apgd_targeted, attack.fab):
                part.n_target_classes = min(_TARGETS, classes - 1)
            found, _ = attack.run_standard_evaluation(images, objective.labels, batch_size=len(images))
        progress(1.0)
        low, high = ball(images, self.eps)  # which the library leaves by half a unit in the last place
        return torch.as_tensor(found).detach().clamp(low, high)


class _LogMean(nn.Module):
    """The log of the averaged prediction, (N, L) float32, where the library expects logits.

    In float32, which FAB insists on, the cross-entropy of an image of which all members are certain has no
    gradient left; the other three parts look at differences of logs, which do.
    """

    def __init__(self, ensemble: nn.Module) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, L)."""
        return log_mean(self.ensemble(images)).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the library's remarks, which it takes for warnings, from standard error."""
    logger = logging.getLogger("auto-attack")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
