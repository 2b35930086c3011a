"""The loop that every attack shares that looks for the smallest change: c * shortfall + distance, descended.

An attack supplies what differs: how large a change is, where a descent starts, and what a step does with the
gradient. What is promised for all of them: of the points that a descent comes through, those count that have what
is wanted by the confidence asked for, and the nearest of them is returned; where there is none, the input is, bit for
bit. An image that has what is wanted from the start is its own answer. Each image has its own constant and stops
by itself, and nothing is computed any more for those that have.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from types import MappingProxyType
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from detector.prediction import Ints
from training.attacks.attack import Attack, Progress, check_count, check_not_negative, check_positive, silent
from training.attacks.batches import any_batch_size
from training.attacks.gradient import Gradient, gradient
from training.attacks.objective import Objective

# Without confidence, how far the log of the averaged probability has to be ahead: a tie is no success.
_TIE: Final = 1e-9
# An image stops whose lowest loss is not below this share of what it was a tenth of the steps before. The lowest, and
# not the latest as in Carlini and Wagner's code: on its way round the boundary the loss of one image goes up and down,
# which theirs, the sum over a batch, hides.
_PROGRESS: Final = 0.9999


@dataclass(kw_only=True)
class Iterate:
    """Where N images are in a descent.

    Attributes:
        clean: (N, C, H, W) float32, where they came from.
        point: (N, C, H, W) float32, where the next gradient is taken.
        candidate: (N, C, H, W) float32 in [0, 1], what may be returned; the same tensor as the point where an attack
            takes its gradients there.
        memory: What else is remembered of each image, N first.
    """

    clean: Tensor
    point: Tensor
    candidate: Tensor
    memory: tuple[Tensor, ...] = ()

    @cached_property
    def change(self) -> Tensor:
        """(N, C, H, W) float32, from the clean images to the candidates."""
        return self.candidate - self.clean

    def only(self, chosen: Tensor) -> Self:
        """The same for some of the images."""
        point = self.point[chosen]
        return type(self)(
            clean=self.clean[chosen],
            point=point,
            candidate=point if self.candidate is self.point else self.candidate[chosen],
            memory=tuple(each[chosen] for each in self.memory),
        )


@dataclass(frozen=True, kw_only=True)
class MinimumAttack(Attack):
    """The settings of an attack that looks for the smallest change; the defaults are the paper's.

    Attributes:
        c: How much the shortfall weighs against the distance, above 0; the first to be tried in a search.
        binary_search_steps: How many constants are tried of each image: c alone, or c and then, by what came of
            the ones before, ten times as much or the middle between one that failed and one that did not.
        steps: Of one descent.
        learning_rate: Of the first step, above 0.
        confidence: By how much the log of the averaged probability has to be ahead, at least 0.
        abort_early: Whether an image stops whose lowest loss has not fallen over a tenth of the steps.

    Raises:
        InputError: A setting out of its range.
    """

    c: float
    binary_search_steps: int = 1
    steps: int = 1000
    learning_rate: float = 0.01
    confidence: float = 0.1
    abort_early: bool = True

    # How the name tells of a setting that is not the default.
    marks: ClassVar[Mapping[str, str]] = MappingProxyType({
        "binary_search_steps": "search{}", "steps": "steps{}", "learning_rate": "lr{:g}",
        "confidence": "confidence{:g}", "abort_early": "to-the-end",
    })  # fmt: skip

    def __post_init__(self) -> None:
        check_positive("c", self.c)
        check_count("binary_search_steps", self.binary_search_steps)
        check_count("steps", self.steps)
        check_positive("learning_rate", self.learning_rate)
        check_not_negative("confidence", self.confidence)

    @property
    def name(self) -> str:
        """Method and constant, as in `cw-1`, and what differs from the defaults, as in `cw-1-search9`."""
        others = [
            self.marks[field.name].format(getattr(self, field.name))
            for field in fields(self)
            if field.name in self.marks and getattr(self, field.name) != field.default
        ]
        return "-".join([self.method, f"{self.c:g}", *others])

    @abstractmethod
    def distance(self, change: Tensor) -> Tensor:
        """What is minimised beside the shortfall: (N, C, H, W) float32 to (N,)."""

    def size(self, change: Tensor) -> Tensor:
        """By what the nearest candidate is chosen: (N, C, H, W) float32 to (N,); the default is the distance."""
        return self.distance(change)

    @abstractmethod
    def start(self, images: Tensor) -> Iterate:
        """Where a descent begins: the point and the candidate are the clean images themselves."""

    @abstractmethod
    def step(self, now: Iterate, slope: Tensor, number: int) -> Iterate:
        """Where it goes next; what `now` remembers may be overwritten.

        Args:
            now: Where it is.
            slope: (N, C, H, W) float32, the gradient of c * shortfall by the pixels of the point; may be overwritten.
            number: How many steps came before.
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
        """One descent for each constant that is tried; see `Attack.perturb`."""
        nearest, sizes = images.clone(), images.new_full((len(images),), torch.inf)
        constants = torch.full((len(images),), self.c, dtype=torch.float64, device=images.device)
        low, high = torch.zeros_like(constants), torch.full_like(constants, torch.inf)
        for attempt in range(self.binary_search_steps):
            descent = _Descent(self, ensemble, images, objective, constants)
            descent.run(partial(_report, progress, attempt, self.binary_search_steps))
            nearest = torch.where((descent.sizes < sizes)[:, None, None, None], descent.nearest, nearest)
            sizes = torch.minimum(descent.sizes, sizes)
            reached = descent.sizes.isfinite()
            low, high = torch.where(reached, low, constants), torch.where(reached, constants, high)
            constants = torch.where(high.isinf(), 10 * constants, (low + high) / 2)
        progress(1.0)
        return nearest

    @property
    def ahead(self) -> float:
        """The confidence; without any, so little that only a tie is no success."""
        return max(self.confidence, _TIE)


class _Descent:
    """N images on their way down, each at its constant and until it stops.

    Attributes:
        nearest: (N, C, H, W) float32, the nearest candidates so far that are as wanted, the clean image for none.
        sizes: (N,) float32, how large a change that is, infinite for none.
    """

    def __init__(
        self, attack: MinimumAttack, ensemble: nn.Module, clean: Tensor, objective: Objective, constants: Tensor
    ) -> None:
        self.nearest, self.sizes = clean.clone(), clean.new_full((len(clean),), torch.inf)
        self._attack, self._ensemble = attack, ensemble
        # Of those that have not stopped, `_rows` being their places among all. `_lowest` is the least loss that each
        # has come to, `_before` what that was when it was last looked at.
        self._rows = torch.arange(len(clean), device=clean.device)
        self._objective, self._constants, self._now = objective, constants, attack.start(clean)
        self._lowest = self._before = torch.full_like(constants, torch.inf)

    def run(self, progress: Progress) -> None:
        """All steps."""
        attack = self._attack
        for number in range(attack.steps):
            if not len(self._rows):
                return
            at = gradient(self._ensemble, self._now.point, self._cost)
            self._judge(at)
            loss = at.values + attack.distance(self._now.point - self._now.clean)
            self._lowest = torch.minimum(self._lowest, loss)
            self._now = attack.step(self._now, at.exact, number)
            if number == 0 or (attack.abort_early and number % max(1, attack.steps // 10) == 0):
                self._drop_idle()
            progress((number + 1) / attack.steps)
        if self._now.candidate is not self._now.point and len(self._rows):
            self._look_ahead()

    def _cost(self, logits: Tensor) -> Tensor:
        """C * shortfall: (N, K, L) logits to (N,) float64, 0 where nothing falls short."""
        return self._constants * self._objective.shortfall(logits, self._attack.ahead)

    def _judge(self, at: Gradient) -> None:
        """Keeps what is worth it, by what is known at the points where the candidates are those."""
        if self._now.candidate is self._now.point:
            self._keep(self._rows, self._now.candidate, self._attack.size(self._now.change), at.values == 0)
        else:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """The same where they are not: only for those that are nearer are the networks asked."""
        sizes = self._attack.size(self._now.change)
        some = (sizes < self.sizes[self._rows]).nonzero().flatten()
        if len(some):
            candidates = self._now.candidate[some]
            with torch.no_grad(), any_batch_size():
                logits = self._ensemble(candidates)
            wanted = self._objective.only(some).shortfall(logits, self._attack.ahead) == 0
            self._keep(self._rows[some], candidates, sizes[some], wanted)

    def _keep(self, rows: Tensor, candidates: Tensor, sizes: Tensor, wanted: Tensor) -> None:
        """Keeps those that are wanted and nearer than any before."""
        nearer = wanted & (sizes < self.sizes[rows])
        self.sizes[rows] = torch.where(nearer, sizes, self.sizes[rows])
        self.nearest[rows] = torch.where(nearer[:, None, None, None], candidates, self.nearest[rows])

    def _drop_idle(self) -> None:
        """Stops the images that need no change, and those whose loss has not fallen since this was last called."""
        falling = self._lowest < _PROGRESS * self._before
        on = (falling & (self.sizes[self._rows] > 0)).nonzero().flatten()
        self._before = self._lowest
        if len(on) < len(self._rows):
            self._rows, self._constants, self._objective = self._rows[on], self._constants[on], self._objective.only(on)
            self._now, self._lowest, self._before = self._now.only(on), self._lowest[on], self._before[on]


def _report(progress: Progress, done: int, total: int, share: float) -> None:
    """Tells the share of all descents from that of one."""
    progress((done + share) / total)
