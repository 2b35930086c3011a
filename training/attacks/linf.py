"""The loop that every L-infinity gradient attack shares: step along the sign, project, repeat.

An attack is a frozen setting that supplies what differs: how many steps, how far each goes, and where
the first starts. What is promised for all of them: the result lies within eps of the clean image and
within [0, 1], exactly and not up to rounding; the last iterate is returned, whether or not it fooled
anyone; and an image's random draws do not depend on the images beside it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from detector.errors import InputError
from detector.prediction import Ints
from training.attacks.loss import ensemble_loss


@dataclass(frozen=True, kw_only=True)
class LinfAttack(ABC):
    """The settings of an attack within an L-infinity ball.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.

    Raises:
        InputError: eps outside (0, 1].
    """

    method: ClassVar[str]

    eps: float

    def __post_init__(self) -> None:
        check_distance("eps", self.eps)

    @property
    @abstractmethod
    def name(self) -> str:
        """Method and strength, as reports show it."""

    @property
    @abstractmethod
    def iterations(self) -> int:
        """How many steps."""

    @property
    @abstractmethod
    def stride(self) -> float:
        """How far a step goes, in units of [0, 1] pixels."""

    def start(self, images: Tensor, rows: Ints) -> Tensor:  # noqa: ARG002  only random starts need keys
        """Where the first step begins; the loop projects it.

        Args:
            images: (N, C, H, W) float32, the clean images; the default is to begin there.
            rows: (N,), what an image's random draws are keyed by.
        """
        return images


@dataclass(frozen=True, kw_only=True)
class IteratedAttack(LinfAttack):
    """An attack of several equal steps.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.
        steps: How many; the paper takes 10.
        step_size: How far each goes, in units of [0, 1] pixels; by default eps / steps, which is the
            paper's eps / 10 at 10 steps. Larger ones, such as 2.5 * eps / steps, reach the far side
            of the ball from any start.

    Raises:
        InputError: A distance outside (0, 1], or no step.
    """

    steps: int = 10
    step_size: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise InputError(f"steps: expected at least 1, found {self.steps}")
        if self.step_size is not None:
            check_distance("step_size", self.step_size)

    @property
    def name(self) -> str:
        """Method, steps and radius, as in `pgd10-0.1`; the step size where it is not the paper's."""
        strength = f"{self.method}{self.steps}-{self.eps:g}"
        return strength if self.step_size is None else f"{strength}-by-{self.step_size:g}"

    @property
    def iterations(self) -> int:
        """How many steps."""
        return self.steps

    @property
    def stride(self) -> float:
        """How far a step goes, in units of [0, 1] pixels."""
        return self.eps / self.steps if self.step_size is None else self.step_size


def climb(ensemble: nn.Module, images: Tensor, labels: Tensor, rows: Ints, attack: LinfAttack) -> Tensor:
    """Attacks images: x <- project(x + stride * sign(grad loss(x))), as often as the attack says.

    Args:
        ensemble: (N, C, H, W) to (N, K, L) logits, in evaluation mode.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64, the true labels.
        rows: (N,), what an image's random draws are keyed by.
        attack: The settings.

    Returns:
        (N, C, H, W) float32, the last iterate.
    """
    low, high = ball(images, attack.eps)
    current = attack.start(images, rows).clamp(low, high)
    for _ in range(attack.iterations):
        current = (current + attack.stride * _gradient(ensemble, current, labels).sign()).clamp(low, high)
    return current


def _gradient(ensemble: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Each image's own gradient of the loss, up to a positive factor.

    Scaled between the loss and the networks: where every member is certain, the loss's gradient is
    fine in float64 and would round to zero on its way through the networks' float32.
    """
    images = images.detach().requires_grad_()
    logits = ensemble(images)
    exact = logits.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(ensemble_loss(exact, labels).sum(), exact)
    largest = slope.abs().amax(dim=(1, 2), keepdim=True)
    slope = slope / largest.clamp(min=torch.finfo(slope.dtype).tiny)
    (gradient,) = torch.autograd.grad(logits, images, grad_outputs=slope.to(logits.dtype))
    return gradient


def ball(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The smallest and largest float32 values within eps of each pixel, and within [0, 1].

    x + eps rounded to float32 may lie outside the ball by half a unit in the last place. Here it is
    computed in float64 and rounded towards the pixel, so that |x' - x| <= eps holds for whoever
    checks, in float32 or in float64.
    """
    low, high = images.double() - eps, images.double() + eps
    near_low, near_high = low.float(), high.float()
    up, down = torch.full_like(near_low, torch.inf), torch.full_like(near_high, -torch.inf)
    near_low = torch.where(near_low.double() < low, torch.nextafter(near_low, up), near_low)
    near_high = torch.where(near_high.double() > high, torch.nextafter(near_high, down), near_high)
    return near_low.clamp(min=0), near_high.clamp(max=1)


def check_distance(name: str, value: float) -> None:
    """Refuses a distance that is not in (0, 1], in units of [0, 1] pixels."""
    if not (math.isfinite(value) and 0 < value <= 1):
        raise InputError(f"{name}: expected a number above 0 and at most 1, in units of [0, 1] pixels, found {value}")
