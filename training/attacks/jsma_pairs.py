"""The saliency map attack of its authors: towards a target, two values at a time."""

from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from detector.errors import SettingError
from training.adp import log_mean
from training.attacks.loss import ensemble_loss
from training.attacks.objective import Objective, Targeted
from training.attacks.saliency import Choice, SaliencyAttack

# Pairs weighed at a time: a few hundred MB at most.
_PAIRS: Final = 2**24


@dataclass(frozen=True, kw_only=True)
class JSMAPairs(SaliencyAttack):
    """Changes, step after step, the pair of values that speaks most for the target and against all other classes.

    Of the pairs whose change raises log F_t and lowers the sum of log F_j over j != t, that of the largest product
    of the two slopes, F being the averaged prediction, Eq. (1); the source has a single network's logits there. A
    value that is at the end of its range is no longer picked. An image without such a pair is given up.

    Untargeted, the target is the class that comes second on the clean image; any class but the label ends it.

    Source: Papernot et al., "The Limitations of Deep Learning in Adversarial Settings", 2016, Algorithm 3.
    Other attributes and errors: see `SaliencyAttack`.

    Attributes:
        theta: What is added to both values of a pair, in units of [0, 1] pixels; below 0 to lower them, never 0.
        gamma: The share of the values that may change: floor(gamma * C * H * W / 2) pairs.
    """

    method: ClassVar[str] = "jsma-pairs"

    theta: float = 1.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < abs(self.theta) <= 1:
            raise SettingError(f"theta: expected a number other than 0 from -1 to 1, found {self.theta}")

    @property
    def name(self) -> str:
        """Method and budget, as in `jsma-pairs-0.1`; the change where it is not the whole range, as its authors'."""
        strength = f"{self.method}-{self.gamma:g}"
        return strength if self.theta == 1 else f"{strength}-by-{self.theta:g}"

    @property
    def values_a_step(self) -> int:
        """Two."""
        return 2

    @property
    def change(self) -> float:
        """Raised by theta."""
        return self.theta

    def chased(self, ensemble: nn.Module, images: Tensor, objective: Objective) -> Objective:
        """The target that was asked for; else the class that comes second."""
        if isinstance(objective, Targeted):
            return objective
        with torch.no_grad():
            return Targeted(objective.heading(ensemble(images)))

    def choose(self, ensemble: nn.Module, images: Tensor, chased: Objective) -> Choice:
        """The pair of the largest saliency."""
        logits, target, others = _slopes(ensemble, images, chased.labels)
        domain = (images < 1 if self.theta > 0 else images > 0).flatten(1)
        sign = 1 if self.theta > 0 else -1
        return Choice(logits, *best_pairs(sign * target, -sign * others, domain))


def best_pairs(gains: Tensor, drops: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs p < q of the domain with the largest (gain_p + gain_q) * (drop_p + drop_q), both sums above 0.

    Not all of the D^2 / 2 pairs have to be weighed. Where two values gain no less than a third and drop more, one
    of them can take the third's place in any pair, and the pair is better for it. So the third is in none of the best,
    and few values are left: those that at most one other outdoes.

    Args:
        gains: (N, D) float32, how much each value speaks for the target.
        drops: (N, D) float32, how much against the other classes.
        domain: (N, D) bool, which values may be picked.

    Returns:
        (N, 2) int64, the first of the best pairs, and (N,) bool, whether there is one.
    """
    gains, drops = (each.masked_fill(~domain, -torch.inf) for each in (gains, drops))
    kept = _seldom_outdone(gains, drops) & domain
    most = int(kept.sum(dim=1).max())
    if most < 2:
        return domain.new_zeros((len(domain), 2), dtype=torch.int64), domain.new_zeros(len(domain))
    # Those that are kept come first, in their order.
    values = kept.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    gains, drops = (each.masked_fill(~kept, -torch.inf).gather(1, values) for each in (gains, drops))
    size = max(1, _PAIRS // most**2)
    blocks = (slice(start, start + size) for start in range(0, len(gains), size))
    best = [_best(gains[block], drops[block]) for block in blocks]
    pairs, products = torch.cat([pair for pair, _ in best]), torch.cat([product for _, product in best])
    return values.gather(1, pairs), products > -torch.inf


def _seldom_outdone(gains: Tensor, drops: Tensor) -> Tensor:
    """Which values have at most one other that gains no less and drops more: (N, D) bool."""
    order = gains.argsort(dim=1, descending=True)
    sorted_drops = drops.gather(1, order)
    lowest = torch.full_like(sorted_drops[:, :1], -torch.inf)
    # The largest drop, and the second largest, of those that gain no less.
    first = torch.cat([lowest, sorted_drops.cummax(dim=1).values[:, :-1]], dim=1)
    second = torch.cat([lowest, torch.minimum(sorted_drops, first).cummax(dim=1).values[:, :-1]], dim=1)
    return torch.zeros_like(drops, dtype=torch.bool).scatter(1, order, sorted_drops >= second)


def _best(gains: Tensor, drops: Tensor) -> tuple[Tensor, Tensor]:
    """The best of all pairs: (n, 2) int64, and their products, (n,), minus infinity where no pair will do."""
    gain = gains[:, :, None] + gains[:, None, :]
    drop = drops[:, :, None] + drops[:, None, :]
    refused = ((gain <= 0) | (drop <= 0)).logical_or_(torch.ones_like(gain[0], dtype=torch.bool).tril())
    products, places = gain.mul_(drop).masked_fill_(refused, -torch.inf).flatten(1).max(dim=1)
    count = gains.shape[1]
    return torch.stack([places // count, places % count], dim=1), products


def _slopes(ensemble: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logits, and up to a positive factor for each image the gradients of log F_t and of the sum of the others.

    One pass forward and two back. As in `gradient`, they are scaled between the float64 of the loss and the float32
    of the networks.
    """
    images = images.detach().requires_grad_()
    logits = ensemble(images)
    exact = logits.detach().double().requires_grad_()
    own = -ensemble_loss(exact, targets)
    others = log_mean(exact).sum(dim=1) - own
    found = []
    for values in (own, others):
        (slope,) = torch.autograd.grad(values.sum(), exact, retain_graph=True)
        slope = slope / slope.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
        (pixels,) = torch.autograd.grad(logits, images, grad_outputs=slope.to(logits.dtype), retain_graph=True)
        found.append(pixels.flatten(1))
    return logits.detach(), *found
