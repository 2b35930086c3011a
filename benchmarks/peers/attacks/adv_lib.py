"""adv-lib: batched, in torch."""

from functools import partial
from typing import Any, ClassVar

from adv_lib.attacks import carlini_wagner_l2, pgd_linf
from torch import Tensor

from benchmarks.peers.attacks.library import Broken, Counterpart, Library, Settings
from training.attacks import BIM, PGD, CarliniWagner


class AdvLib(Library):
    """Its functions."""

    name: ClassVar[str] = "adv-lib"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case BIM(eps=eps, steps=steps, stride=stride):
                return self._within(eps, steps, stride, random_init=False)
            case PGD(eps=eps, steps=steps, stride=stride, restarts=1):
                return self._within(eps, steps, stride, random_init=True)
            case CarliniWagner():
                return self._called(partial(
                    carlini_wagner_l2, initial_const=settings.c, binary_search_steps=settings.binary_search_steps,
                    max_iterations=settings.steps, learning_rate=settings.learning_rate,
                    confidence=settings.confidence, abort_early=False))  # fmt: skip
        return None

    def _within(self, eps: float, steps: int, stride: float, *, random_init: bool) -> Counterpart:
        """Steps within a ball; of n, it looks at the results of n - 1."""
        return self._called(
            partial(pgd_linf, ε=eps, steps=steps + 1, random_init=random_init, absolute_step_size=stride),
            differs="returns the last iterate that was a success, not the last; the clean image where there was none",
        )

    def _called(self, function: Any, *, differs: str = "") -> Counterpart:
        """A function of the model, the images and the labels."""

        def run(images: Tensor, labels: Tensor) -> Tensor:
            found: Tensor = function(self.model, images, labels, targeted=self.targeted)
            return found.detach()

        return Counterpart(run=run, differs=differs)
