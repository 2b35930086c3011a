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
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final, Self

import torch
from torch import Tensor, nn

from detector.prediction import Ints
from training.attacks.attack import Attack, Progress, check_count, check_not_negative, check_positive, silent
from training.attacks.gradient import Gradient, gradient
from training.attacks.objective import Objective

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
        candidate: (N, C, H, W) float32 in [0, 1], what may be returned; mostly the point itself.
        memory: What else is remembered of each image, N first.
    """

    clean: Tensor
    point: Tensor
    candidate: Tensor
    memory: tuple[Tensor, ...] = ()

    @property
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
        """Where a descent from clean images begins."""

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
        with torch.no_grad():
            logits = ensemble(images)
        there = objective.succeeded(logits) & (objective.shortfall(logits, self.confidence) == 0)
        left = (~there).nonzero().flatten()
        search = _Search(self, ensemble, images[left], objective.only(left))
        constants = torch.full(left.shape, self.c, dtype=torch.float64, device=images.device)
        low, high = torch.zeros_like(constants), torch.full_like(constants, torch.inf)
        for attempt in range(self.binary_search_steps):
            reached = search.descend(constants, partial(_report, progress, attempt, self.binary_search_steps))
            low, high = torch.where(reached, low, constants), torch.where(reached, constants, high)
            constants = torch.where(high.isinf(), 10 * constants, (low + high) / 2)
        progress(1.0)
        return images.index_copy(0, left, search.nearest)


@dataclass(kw_only=True)
class _Left:
    """The images of a descent that have not stopped.

    Attributes:
        rows: (N,) int64, their places in the search.
        constants: (N,) float64, c for each.
        objective: What is wanted of them.
        confidence: By how much.
        now: Where they are.
        lowest: (N,) float64, the least loss that each has come to.
        before: (N,) float64, what that was when it was last looked at.
    """

    rows: Tensor
    constants: Tensor
    objective: Objective
    confidence: float
    now: Iterate
    lowest: Tensor
    before: Tensor

    def cost(self, logits: Tensor) -> Tensor:
        """C * shortfall: (N, K, L) logits to (N,) float64, 0 where nothing falls short."""
        return self.constants * self.objective.shortfall(logits, self.confidence)

    def only(self, chosen: Tensor) -> "_Left":
        """Some of them."""
        return _Left(
            rows=self.rows[chosen],
            constants=self.constants[chosen],
            objective=self.objective.only(chosen),
            confidence=self.confidence,
            now=self.now.only(chosen),
            lowest=self.lowest[chosen],
            before=self.before[chosen],
        )


class _Search:
    """Images that do not have what is wanted yet, and the nearest candidates that do.

    Attributes:
        nearest: (N, C, H, W) float32, of all descents so far; the clean image where none came through one.
    """

    def __init__(self, attack: MinimumAttack, ensemble: nn.Module, clean: Tensor, objective: Objective) -> None:
        self.nearest = clean.clone()
        self._sizes = clean.new_full((len(clean),), torch.inf)
        self._attack, self._ensemble, self._clean, self._objective = attack, ensemble, clean, objective

    def descend(self, constants: Tensor, progress: Progress) -> Tensor:
        """One descent of each image at its constant: (N,) bool, which came through a candidate as wanted."""
        attack = self._attack
        reached = torch.zeros_like(constants, dtype=torch.bool)
        left = _Left(
            rows=torch.arange(len(constants), device=constants.device),
            constants=constants,
            objective=self._objective,
            confidence=attack.confidence,
            now=attack.start(self._clean),
            lowest=torch.full_like(constants, torch.inf),
            before=torch.full_like(constants, torch.inf),
        )
        for number in range(attack.steps):
            if not len(left.rows):
                break
            at = gradient(self._ensemble, left.now.point, left.cost)
            costs = self._judge(left, reached, at)
            left.lowest = torch.minimum(left.lowest, costs + attack.distance(left.now.change))
            falling = None
            if attack.abort_early and number % max(1, attack.steps // 10) == 0:
                falling, left.before = left.lowest <= _PROGRESS * left.before, left.lowest
            left.now = attack.step(left.now, at.exact, number)
            if falling is not None:
                left = left.only(falling.nonzero().flatten())
            progress((number + 1) / attack.steps)
        if len(left.rows):
            self._judge(left, reached)
        return reached

    def _judge(self, left: _Left, reached: Tensor, at: Gradient | None = None) -> Tensor:
        """Keeps the candidates that are as wanted and nearer than any before; their costs, (N,) float64."""
        now, rows = left.now, left.rows
        if at is not None and now.candidate is now.point:
            logits, costs = at.logits, at.values
        else:
            with torch.no_grad():
                logits = self._ensemble(now.candidate)
            costs = left.cost(logits)
        # Without confidence, a tie falls short of nothing and is no success.
        wanted = (costs == 0) & left.objective.succeeded(logits)
        sizes = self._attack.size(now.change)
        nearer = wanted & (sizes < self._sizes[rows])
        reached[rows] |= wanted
        self._sizes[rows] = torch.where(nearer, sizes, self._sizes[rows])
        self.nearest[rows] = torch.where(nearer[:, None, None, None], now.candidate, self.nearest[rows])
        return costs


def _report(progress: Progress, done: int, total: int, share: float) -> None:
    """Tells the share of all descents from that of one."""
    progress((done + share) / total)
