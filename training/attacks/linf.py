"""The loop that every L-infinity gradient attack shares: step along the sign, project, repeat.

An attack is a frozen setting that supplies what differs: how many steps, how far each goes, in which
direction, and where the first starts. What is promised for all of them: the result lies within eps of the
clean image and within [0, 1], exactly and not up to rounding; the last iterate is returned, whether or not it
fooled anyone; and an image's random draws do not depend on the images beside it.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detector.prediction import Ints
from training.attacks.attack import Attack, Progress, check_count, check_distance, silent
from training.attacks.gradient import gradient
from training.attacks.objective import Objective

# (N, C, H, W) images and (N, K, L) logits; whether that is enough.
Watch = Callable[[Tensor, Tensor], bool]


@dataclass(frozen=True, kw_only=True)
class LinfAttack(Attack):
    """The settings of an attack within an L-infinity ball.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.

    Raises:
        InputError: eps outside (0, 1].
    """

    eps: float

    def __post_init__(self) -> None:
        check_distance("eps", self.eps)

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

    def direction(self, slope: Tensor, memory: Tensor | None) -> Tensor:  # noqa: ARG002  only momentum remembers
        """Whose sign a step takes, and what the next step is handed as `memory`; the default is the gradient.

        Args:
            slope: (N, C, H, W), the gradient up to a positive factor for each image.
            memory: What the step before returned; None in the first.
        """
        return slope

    def perturb(
        self, ensemble: nn.Module, images: Tensor, objective: Objective, rows: Ints, *, progress: Progress = silent
    ) -> Tensor:
        """X <- project(x + stride * sign(direction)), as often as the attack says; see `Attack.perturb`."""
        strides = reported([self.stride] * self.iterations, progress)
        return self.climb(ensemble, self.start(images, rows), ball(images, self.eps), objective, strides)

    def climb(
        self,
        ensemble: nn.Module,
        start: Tensor,
        within: tuple[Tensor, Tensor],
        objective: Objective,
        strides: Iterable[float],
        *,
        watch: Watch | None = None,
    ) -> Tensor:
        """The loop itself: one step for each stride, in units of [0, 1] pixels; returns the last iterate.

        Args:
            ensemble: See `Attack.perturb`.
            start: (N, C, H, W) float32, where the first step begins once it is projected.
            within: The smallest and largest images that are allowed, see `ball`.
            objective: What to climb.
            strides: How far each step goes.
            watch: Shown each iterate that a step begins at, with its logits; True ends the climb there.
        """
        low, high = within
        current = start.clamp(low, high)
        memory: Tensor | None = None
        for stride in strides:
            at = gradient(ensemble, current, objective.loss)
            if watch is not None and watch(current, at.logits):
                break
            memory = self.direction(at.direction, memory)
            current = (current + stride * memory.sign()).clamp(low, high)
        return current

    def describe(self) -> dict[str, Any]:
        """The settings as JSON, defaults filled in."""
        return {**super().describe(), "step_size": self.stride}


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
        check_count("steps", self.steps)
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


def reported(strides: Sequence[float], progress: Progress) -> Iterator[float]:
    """The strides one by one, each reported once the next is asked for."""
    for number, stride in enumerate(strides):
        yield stride
        progress((number + 1) / len(strides))


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
