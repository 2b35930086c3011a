"""The loop that the saliency map attacks share: change the few values that matter most, look again, repeat.

An attack supplies what differs: how many steps, by how much a step changes a value, and which values it picks. What is
promised for all of them: an image is returned as soon as it has what is wanted; the input is, bit for bit, where it
does not come to that within the budget, or where no step would change anything any more. Images that are done, either
way, leave the batch.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import SettingError
from detector.prediction import Ints
from training.attacks.attack import Attack, Progress, silent
from training.attacks.batches import any_batch_size
from training.attacks.objective import Objective


class Choice(NamedTuple):
    """What a step picks in N images.

    Attributes:
        logits: (N, K, L), at the images.
        places: (N, P) int64, in the flattened images.
        possible: (N,) bool, where there was something to pick.
    """

    logits: Tensor
    places: Tensor
    possible: Tensor


@dataclass(frozen=True, kw_only=True)
class SaliencyAttack(Attack):
    """The settings of an attack that changes few values, each by much.

    Attributes:
        theta: By how much a step changes a value, in units of [0, 1] pixels.
        gamma: The budget: floor(gamma * C * H * W) changes of single values.

    Raises:
        InputError: theta out of range, or gamma outside (0, 1].
    """

    theta: float
    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise SettingError(f"gamma: expected a share above 0 and at most 1, found {self.gamma}")

    @property
    @abstractmethod
    def values_a_step(self) -> int:
        """How many values a step changes."""

    @property
    @abstractmethod
    def change(self) -> float:
        """By how much, in units of [0, 1] pixels; below 0 to lower them."""

    @abstractmethod
    def chased(self, ensemble: nn.Module, images: Tensor, objective: Objective) -> Objective:
        """What the choices aim at: what is wanted, or what leads there.

        Raises:
            InputError: The attack has no such aim.
        """

    @abstractmethod
    def choose(self, ensemble: nn.Module, images: Tensor, chased: Objective) -> Choice:
        """The values to change next.

        Args:
            ensemble: (N, C, H, W) to (N, K, L) logits.
            images: (N, C, H, W) float32, as changed so far.
            chased: What `chased` returned for them.
        """

    def perturb(
        self,
        ensemble: nn.Module,
        images: Tensor,
        objective: Objective,
        rows: Ints,  # noqa: ARG002  nothing is drawn
        *,
        progress: Progress = silent,
    ) -> Tensor:
        """Changes values until the image is as wanted or the budget is spent; see `Attack.perturb`."""
        found, current = images.clone(), images
        left = torch.arange(len(images), device=images.device)
        wanted, chased = objective, self.chased(ensemble, images, objective)
        steps = math.floor(self.gamma * math.prod(images.shape[1:])) // self.values_a_step
        with any_batch_size():
            for step in range(steps):
                choice = self.choose(ensemble, current, chased)
                done = wanted.succeeded(choice.logits)
                found[left] = torch.where(done[:, None, None, None], current, found[left])
                following = self._changed(current, choice.places)
                moved = (following != current).flatten(1).any(dim=1)
                on = (~done & choice.possible & moved).nonzero().flatten()
                current, left, wanted, chased = following[on], left[on], wanted.only(on), chased.only(on)
                if not len(on):
                    break
                progress((step + 1) / (steps + 1))
            if len(left):
                with torch.no_grad():
                    done = wanted.succeeded(ensemble(current))
                found[left] = torch.where(done[:, None, None, None], current, found[left])
        progress(1.0)
        return found

    def _changed(self, images: Tensor, places: Tensor) -> Tensor:
        """The images one step further."""
        flat = images.flatten(1)
        return flat.scatter(1, places, (flat.gather(1, places) + self.change).clamp(0, 1)).view_as(images)
