"""One training step: the gradients of the ADP loss for all members that still learn.

    images -> members -> logits (N, K, L) -> ADP loss in float64 -> gradients

All at once, or one member at a time (`sequential`): the loss needs every member's logits, but the backward
pass needs only one member's activations, so a first pass without them finds the gradient of the loss by the
logits, and each member then runs again, on the same draws, and takes its part of it (Section 3.1).
A GPU has room for the members beside each other: each runs on a stream of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.prediction import Ints
from training import adp
from training.attacks import FGSM, PGD, Untargeted
from training.config import TrainConfig
from training.ensemble import Ensemble
from training.seeds import generator, torch_seed

# The range of eps of the paper's adversarial training, in units of [0, 1] pixels (Table 4).
EPS: Final = (0.01, 0.05)


class Step:
    """Gradients of an ensemble in training.

    Args:
        ensemble: Its parameters receive the gradients.
        config: The settings.
    """

    def __init__(self, ensemble: Ensemble, config: TrainConfig) -> None:
        self._config = config
        self._ensemble = ensemble
        self._members = cast("Sequence[nn.Module]", ensemble.members)
        # One size of image and batch at a time: code for a stated size is faster than code for any.
        self._forwards: list[Callable[[Tensor], Tensor]] = [
            torch.compile(member, dynamic=False) if config.compile else member for member in self._members
        ]
        self._loss = torch.compile(adp.terms, dynamic=False) if config.compile else adp.terms
        self._streams: list[torch.cuda.Stream] = []

    def __call__(self, images: Tensor, labels: Tensor, *, frozen: frozenset[int], classes: Tensor | None) -> Tensor:
        """Puts the gradients of the mean loss over the batch into the parameters.

        Args:
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64.
            frozen: Members that no longer learn; their logits still count, and they are in evaluation mode.
            classes: (N, m) int64, what the entropy is taken over; None for all.

        Returns:
            (4,) float64: the mean loss, cross-entropy of Eq. (2), entropy, and log diversity of Eq. (5), the last
            two 0 where their weight is.
        """
        self._ensemble.zero_grad(set_to_none=True)
        return (self._sequential if self._config.sequential else self._simultaneous)(images, labels, frozen, classes)

    def _simultaneous(self, images: Tensor, labels: Tensor, frozen: frozenset[int], classes: Tensor | None) -> Tensor:
        """All activations in memory at once."""
        logits = self._stacked(images, learning=frozenset(range(len(self._members))) - frozen)
        terms = self._terms(logits, labels, classes)
        torch.autograd.backward(terms[0])
        return terms.detach()

    def _sequential(self, images: Tensor, labels: Tensor, frozen: frozenset[int], classes: Tensor | None) -> Tensor:
        """One member's activations in memory at a time."""
        gpus = [images.device] if images.device.type == "cuda" else []
        # Left no trace of, so that the second pass draws and counts what the first did; frozen members do neither.
        with torch.random.fork_rng(devices=gpus), _buffers_kept(self._ensemble):
            logits = self._stacked(images, learning=frozenset()).requires_grad_()
        terms = self._terms(logits, labels, classes)
        (slope,) = torch.autograd.grad(terms[0], logits)
        for k in range(len(self._members)):
            if k not in frozen:
                torch.autograd.backward(self._logits(k, images, learns=True), slope[:, k])
        return terms.detach()

    def _stacked(self, images: Tensor, *, learning: frozenset[int]) -> Tensor:
        """All members', (N, K, L); with activations kept for those that learn."""
        if images.device.type == "cpu":
            logits = [self._logits(k, images, learns=k in learning) for k in range(len(self._members))]
            return torch.stack(logits, dim=1)
        logits, here = [], torch.cuda.current_stream(images.device)
        self._streams = self._streams or [torch.cuda.Stream(images.device) for _ in self._members]  # type: ignore[no-untyped-call]
        for k, stream in enumerate(self._streams):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                logits.append(self._logits(k, images, learns=k in learning))
        for stream in self._streams:
            here.wait_stream(stream)
        return torch.stack(logits, dim=1)

    def _logits(self, k: int, images: Tensor, *, learns: bool) -> Tensor:
        """One member's, in the precision it trains in."""
        reduced = self._config.precision == "bfloat16"
        with torch.set_grad_enabled(learns), torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
            return self._forwards[k](images)

    def _terms(self, logits: Tensor, labels: Tensor, classes: Tensor | None) -> Tensor:
        """The loss and its parts, means over the batch."""
        config = self._config
        terms: Tensor = self._loss(
            logits, labels, alpha=config.alpha, beta=config.beta, temperature=config.temperature, classes=classes
        )
        return terms


def half_attacked(
    ensemble: Ensemble, images: Tensor, labels: Tensor, rows: Ints, *, adversary: str, key: tuple[int, int, int]
) -> Tensor:
    """The batch with its first half under attack: adversarial training as in Table 4.

    One eps is drawn for the batch, as in the authors' code, uniformly from `EPS`.

    Args:
        ensemble: As it stands; it is attacked in evaluation mode, and left as it was.
        images: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64.
        rows: (N,), what PGD's starting points are keyed by, with the seed and the epoch.
        adversary: `fgsm` or `pgd`.
        key: Seed, epoch and step, which eps is keyed by.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    seed, epoch, step = key
    eps = float(generator(seed, "eps", epoch, step).uniform(*EPS))
    attack = FGSM(eps=eps) if adversary == "fgsm" else PGD(eps=eps, seed=torch_seed(seed, "starts", epoch))
    half = len(images) // 2
    modes = [(module, module.training) for module in ensemble.modules()]
    ensemble.eval()
    try:
        attacked = attack.perturb(ensemble, images[:half], Untargeted(labels[:half]), rows[:half])
    finally:
        for module, mode in modes:
            module.training = mode
    return torch.cat([attacked, images[half:]])


def sampled(labels: Tensor, table: NDArray[Any], count: int) -> Tensor:
    """The label and so many other classes of each image, none of them twice.

    Args:
        labels: (N,) int64.
        table: (N, L - 1) random numbers: those at the lowest are chosen.
        count: How many others, at most L - 1.

    Returns:
        (N, 1 + count) int64.
    """
    others = torch.from_numpy(np.argsort(table, axis=1)[:, :count]).to(labels.device)
    return torch.cat([labels[:, None], others + (others >= labels[:, None])], dim=1)


@contextmanager
def _buffers_kept(ensemble: nn.Module) -> Iterator[None]:
    """Passes that leave what networks count as they go, such as batch normalisation's statistics, as it was."""
    buffers = list(ensemble.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
