"""The Adversarial Robustness Toolbox: batched, in numpy around torch."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from benchmarks.peers.attacks.library import SQUARE_DIFFERS, Broken, Counterpart, Library, Settings
from detector.square import Square
from training.attacks import BIM, EAD, FGSM, MIM, PGD, CarliniWagner, JSMAPairs


class ART(Library):
    """Its attacks' `generate`, all images in one batch."""

    name: ClassVar[str] = "adversarial-robustness-toolbox"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case FGSM(eps=eps):
                return self._generated(evasion.FastGradientMethod, eps=eps)
            case BIM(eps=eps, steps=steps, stride=stride):
                return self._generated(
                    evasion.BasicIterativeMethod, eps=eps, eps_step=stride, max_iter=steps, verbose=False
                )
            case PGD(eps=eps, steps=steps, stride=stride, restarts=1):
                return self._generated(evasion.ProjectedGradientDescentPyTorch, eps=eps, eps_step=stride,
                                       max_iter=steps, num_random_init=1, verbose=False)  # fmt: skip
            case MIM(eps=eps, steps=steps, stride=stride, decay=decay):
                return self._generated(evasion.MomentumIterativeMethod, eps=eps, eps_step=stride,
                                       max_iter=steps, decay=decay, verbose=False)  # fmt: skip
            case Square(eps=eps, queries=queries, p=p):
                made = self._generated(evasion.SquareAttack, eps=eps, max_iter=queries, p_init=p, verbose=False)
                return replace(made, differs=SQUARE_DIFFERS, weaker=True)
            case JSMAPairs():
                return Broken("looks at the target's slope alone, not at the other classes'")
            case CarliniWagner():
                return Broken("descends otherwise than the source, by gradient steps whose length it searches for")
            case EAD(confidence=confidence) if confidence:
                return Broken("judges success without the confidence")
            case EAD(beta=beta, rule=rule):
                return self._generated(
                    _ElasticNet, confidence=0.0, learning_rate=settings.learning_rate,
                    binary_search_steps=settings.binary_search_steps, max_iter=settings.steps, beta=beta,
                    initial_const=settings.c, decision_rule=rule.upper(), verbose=False,
                )  # fmt: skip
        return None

    def _generated(self, kind: Any, **settings: Any) -> Counterpart:
        """An attack."""
        classifier = PyTorchClassifier(
            self.model, loss=nn.CrossEntropyLoss(), input_shape=self.shape, nb_classes=self.classes,
            clip_values=(0.0, 1.0), device_type="cpu" if self.device.type == "cpu" else "gpu",
        )  # fmt: skip

        def run(images: Tensor, labels: Tensor) -> Tensor:
            attack = kind(classifier, batch_size=len(images), **settings)
            if self.targeted:
                attack.set_params(targeted=True)
            found = attack.generate(images.cpu().numpy(), labels.cpu().numpy())
            return torch.from_numpy(found).to(images)

        return Counterpart(run=run)


class _ElasticNet(evasion.ElasticNet):  # type: ignore[misc]
    """Its elastic-net attack, mended: where an image has what is wanted, it drops the gradient of the distance too."""

    def _gradient_of_loss(self, *, x: Any, x_adv: Any, **others: Any) -> Any:
        """The gradient by the pixels, (N, C, H, W)."""
        slope = super()._gradient_of_loss(x=x, x_adv=x_adv, **others)
        dropped = (slope == 0).all(axis=(1, 2, 3), keepdims=True)
        return np.where(dropped, 2 * (x_adv - x), slope)
