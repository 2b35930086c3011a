"""pyautoattack: AutoAttack and its parts, batched, in torch; ours runs the whole of it, and here is a part."""

from typing import ClassVar

import torch
from pyautoattack.square import SquareAttack
from torch import Tensor

from benchmarks.peers.attacks.library import SQUARE_DIFFERS, Broken, Counterpart, Library, Settings
from detector.square import Square


class PyAutoAttack(Library):
    """Its attacks."""

    name: ClassVar[str] = "pyautoattack"

    def counterpart(self, settings: Settings) -> Counterpart | Broken | None:
        """Its version of an attack of ours."""
        match settings:
            case Square(eps=eps, queries=queries, p=p):

                def run(images: Tensor, labels: Tensor) -> Tensor:
                    attack = SquareAttack(
                        self.model, eps=eps, n_queries=queries, p_init=p, seed=torch.initial_seed(), device=self.device
                    )
                    found: Tensor = attack.perturb(images, labels)
                    return found

                return Counterpart(run=run, differs=SQUARE_DIFFERS, weaker=True)
        return None
