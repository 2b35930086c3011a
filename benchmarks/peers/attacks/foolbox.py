"""Foolbox: batched, in torch."""

import os
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.peers.attacks.library import Broken, Counterpart, Library, Settings
from training.attacks import BIM, EAD, FGSM, MIM, PGD, CarliniWagner
from training.attacks.minimum import MinimumAttack

# It imports a wrapper of git, which otherwise refuses to be imported where there is no git.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import foolbox


class Foolbox(Library):
    """Its attacks' `run`, which spares it judging its own results."""

    name: ClassVar[str] = "foolbox"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case FGSM(eps=eps) if not self.targeted:  # it has no targeted one
                return self._within(foolbox.attacks.LinfFastGradientAttack(random_start=False), eps)
            case BIM(eps=eps, steps=steps, stride=stride):
                kind = foolbox.attacks.LinfBasicIterativeAttack
                return self._within(kind(abs_stepsize=stride, steps=steps, random_start=False), eps)
            case PGD(eps=eps, steps=steps, stride=stride, restarts=1):
                kind = foolbox.attacks.LinfProjectedGradientDescentAttack
                return self._within(kind(abs_stepsize=stride, steps=steps, random_start=True), eps)
            case MIM():
                return Broken("adds up the signs of gradients, not gradients over their L1 norms")
            case CarliniWagner():
                return self._nearest(foolbox.attacks.L2CarliniWagnerAttack(
                    **self._search(settings), stepsize=settings.learning_rate))  # fmt: skip
            case EAD(beta=beta, rule=rule):
                return self._nearest(foolbox.attacks.EADAttack(
                    **self._search(settings), initial_stepsize=settings.learning_rate, regularization=beta,
                    decision_rule=rule.upper()))  # fmt: skip
        return None

    def _search(self, settings: MinimumAttack) -> dict[str, Any]:
        """What C&W and EAD share. It stops early on the sum over the batch, so that results depend on the batch."""
        return {
            "initial_const": settings.c, "binary_search_steps": settings.binary_search_steps,
            "steps": settings.steps, "confidence": settings.confidence, "abort_early": False,
        }  # fmt: skip

    def _nearest(self, attack: Any) -> Counterpart:
        """An attack that looks for the smallest change."""
        model = self._model()
        return Counterpart(
            run=lambda images, labels: not_black(attack.run(model, images, self._wanted(labels)), images)
        )

    def _within(self, attack: Any, eps: float) -> Counterpart:
        """An attack within a ball."""
        model = self._model()
        return Counterpart(run=lambda images, labels: attack.run(model, images, self._wanted(labels), epsilon=eps))

    def _model(self) -> Any:
        """The ensemble, in its wrapper."""
        return foolbox.PyTorchModel(self.model, bounds=(0, 1), device=self.device)

    def _wanted(self, labels: Tensor) -> Any:
        """What it calls a criterion."""
        return (foolbox.criteria.TargetedMisclassification if self.targeted else foolbox.criteria.Misclassification)(
            labels
        )


def not_black(found: Tensor, images: Tensor) -> Tensor:
    """The clean image for the black one that it returns where it found nothing."""
    black = found.flatten(1).eq(0).all(dim=1)
    return torch.where(black[:, None, None, None], images, found)
