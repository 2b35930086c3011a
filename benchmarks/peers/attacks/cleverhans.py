"""CleverHans: batched, in torch; no longer kept."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import Tensor

from benchmarks.peers.attacks.library import Broken, Counterpart, Library, Settings
from training.attacks import BIM, FGSM, PGD, CarliniWagner


class CleverHans(Library):
    """Its functions, without their checks of what they were given."""

    name: ClassVar[str] = "cleverhans"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case FGSM(eps=eps):
                return self._called(partial(fast_gradient_method, eps=eps, norm=np.inf))
            case BIM(eps=eps, steps=steps, stride=stride):
                return self._iterated(eps, steps, stride, rand_init=False)
            case PGD(eps=eps, steps=steps, stride=stride, restarts=1):
                return self._iterated(eps, steps, stride, rand_init=True)
            case CarliniWagner(binary_search_steps=1):
                return self._called(partial(
                    carlini_wagner_l2, n_classes=self.classes, initial_const=settings.c, binary_search_steps=1,
                    max_iterations=settings.steps, lr=settings.learning_rate, confidence=settings.confidence,
                ))  # fmt: skip
            case CarliniWagner():
                return Broken("begins each descent where the one before ended, with its momentum, not at the image")
        return None

    def _iterated(self, eps: float, steps: int, stride: float, *, rand_init: bool) -> Counterpart:
        """Steps within a ball."""
        return self._called(partial(projected_gradient_descent, eps=eps, eps_iter=stride, nb_iter=steps, norm=np.inf,
                                    rand_init=rand_init, sanity_checks=False))  # fmt: skip

    def _called(self, function: Any) -> Counterpart:
        """A function of the model and the images."""

        def run(images: Tensor, labels: Tensor) -> Tensor:
            found: Tensor = function(self.model, images, clip_min=0.0, clip_max=1.0, y=labels, targeted=self.targeted)
            return found.detach()

        return Counterpart(run=run)
