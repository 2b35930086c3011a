"""Torchattacks: batched, in torch, but for JSMA."""

from typing import Any, ClassVar

import torch
import torchattacks
from torch import Tensor

from benchmarks.peers.attacks.library import SQUARE_DIFFERS, Broken, Counterpart, Library, Settings
from detector.square import Square
from training.attacks import BIM, EAD, FGSM, MIM, PGD, AutoAttack, CarliniWagner, JSMAPairs


class TorchAttacks(Library):
    """Its attacks, called as they are; targets are handed over as labels."""

    name: ClassVar[str] = "torchattacks"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case FGSM(eps=eps):
                return self._called(torchattacks.FGSM(self.model, eps=eps))
            case BIM(eps=eps, steps=steps, stride=stride):
                return self._called(torchattacks.BIM(self.model, eps=eps, alpha=stride, steps=steps))
            case PGD(eps=eps, steps=steps, stride=stride, restarts=1):
                return self._called(torchattacks.PGD(self.model, eps=eps, alpha=stride, steps=steps, random_start=True))
            case MIM(eps=eps, steps=steps, stride=stride, decay=decay):
                return self._called(torchattacks.MIFGSM(self.model, eps=eps, alpha=stride, steps=steps, decay=decay))
            case AutoAttack(eps=eps):
                return self._called(torchattacks.AutoAttack(self.model, eps=eps, n_classes=self.classes, seed=0))
            case Square(eps=eps, queries=queries, p=p):
                attack = torchattacks.Square(self.model, eps=eps, n_queries=queries, p_init=p)
                return self._called(attack, seeded=True, differs=SQUARE_DIFFERS, weaker=True)
            case JSMAPairs(theta=theta, gamma=gamma) if self.targeted:
                return self._called(torchattacks.JSMA(self.model, theta=theta, gamma=gamma))
            case CarliniWagner():
                return Broken(
                    "does nothing where outputs are log-probabilities, and never moves black and white pixels"
                )
            case EAD():
                return Broken(
                    "does nothing where outputs are log-probabilities, and overwrites the clean image it starts from"
                )
        return None

    def _called(self, attack: Any, *, seeded: bool = False, **notes: Any) -> Counterpart:
        """An attack; some have a seed of their own."""
        if self.targeted:
            attack.set_mode_targeted_by_label(quiet=True)

        def run(images: Tensor, labels: Tensor) -> Tensor:
            if seeded:
                attack.seed = torch.initial_seed()
            found: Tensor = attack(images, labels)
            return found.detach()

        return Counterpart(run=run, **notes)
