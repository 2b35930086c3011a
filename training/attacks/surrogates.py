"""The scores of `detector.scores` once more, with gradients: what an attacker who knows the detector descends by.

Each is a twin in torch of the one that decides, (N, K, L) logits to (N,) float64, lower is more suspicious. They
take the label as an argument, (N,) int64, where a detector knows only the ensemble's own prediction: with that one they
are the score, with another one what the score would be if that were the prediction. They may differ from the score
where a gradient would be infinite; whether an image is flagged is always said by the score itself.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from detector.scores.classgaussians import ClassGaussians
from detector.scores.mahalanobis import Mahalanobis
from detector.scores.mixture import Typical
from detector.scores.score import Score
from detector.scores.typicality import Typicality
from training import adp
from training.adp import log_mean

# Logits (N, K, L) and labels (N,) to (N,).
Surrogate = Callable[[Tensor, Tensor], Tensor]

# Below these, logarithms and square roots have no gradient worth following.
_LEAST: Final = 1e-12


def surrogate(score: Score, device: torch.device | str = "cpu") -> Surrogate:
    """A score's twin.

    Args:
        score: One of `detector.scores.SCORES`, fitted where it has to be.
        device: Where the logits will lie.
    """
    if isinstance(score, Typicality):
        assert score.fitted is not None, "typicality: fit it first"
        return _Typicality(score.fitted, device)
    if isinstance(score, Mahalanobis):
        assert score.fitted is not None, "mahalanobis: fit it first"
        return _Mahalanobis(score.fitted, device)
    return _TWINS[score.name]


def _log_diversity(logits: Tensor, labels: Tensor) -> Tensor:
    """Log diversity with so much of a jitter that its gradient is finite, which training's smooths away by far more."""
    return adp.log_diversity(logits, labels, jitter=_LEAST)


def _information(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
    """Minus the mutual information, Eq. (9)."""
    return -adp.js_divergence(logits)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
    """Minus the entropy of the averaged prediction."""
    return -adp.prediction_entropy(logits)


def _log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p / (1 - p)) of the label's averaged probability p."""
    log_prediction = log_mean(logits)
    rest = torch.logsumexp(log_prediction.masked_fill(_is_label(logits, labels), -torch.inf), dim=1)
    return log_prediction.gather(1, labels[:, None]).squeeze(1) - rest


def _energy(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001
    """The mean over members of log sum_j exp(logit_j)."""
    return torch.logsumexp(logits.double(), dim=2).mean(dim=1)


_TWINS: Final[Mapping[str, Surrogate]] = MappingProxyType({
    "log_diversity": _log_diversity,
    "mutual_information": _information,
    "entropy": _entropy,
    "max_probability": _log_odds,
    "energy": _energy,
})  # fmt: skip


class _Typicality:
    """The log density of the statistics, see `detector.scores.statistics`."""

    def __init__(self, fitted: Typical, device: torch.device | str) -> None:
        mixtures = fitted.mixtures
        numbers = partial(torch.tensor, dtype=torch.float64, device=device)
        self._centre, self._scale = numbers(fitted.centre), numbers(fitted.scale)
        self._which = torch.tensor(fitted.which, device=device)
        self._means = numbers([[part.mean for part in mixture] for mixture in mixtures])
        self._precisions = numbers([[part.precision for part in mixture] for mixture in mixtures])
        weights = numbers([[part.log_weight for part in mixture] for mixture in mixtures])
        diagonals = torch.diagonal(self._precisions, dim1=2, dim2=3)
        self._constants = weights + diagonals.log().sum(dim=2) - len(self._centre) / 2 * math.log(2 * math.pi)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, K, L) and (N,) to (N,)."""
        mixture = self._which[labels]
        standard = (_statistics(logits, labels) - self._centre) / self._scale
        gap = standard[:, None, :] - self._means[mixture]
        normal = torch.einsum("ncd,ncde->nce", gap, self._precisions[mixture])
        return torch.logsumexp(self._constants[mixture] - 0.5 * normal.square().sum(dim=2), dim=1)


class _Mahalanobis:
    """The log density of all log probabilities, see `detector.scores.classgaussians`."""

    def __init__(self, fitted: ClassGaussians, device: torch.device | str) -> None:
        numbers = partial(torch.tensor, dtype=torch.float64, device=device)
        self._means, self._precision = numbers(fitted.means), numbers(fitted.precision)
        self._which = torch.tensor(fitted.which, device=device)
        self._constant = self._precision.diagonal().log().sum() - fitted.size / 2 * math.log(2 * math.pi)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N, K, L) and (N,) to (N,)."""
        values = functional.log_softmax(logits.double(), dim=2).flatten(1)
        normal = (values - self._means[self._which[labels]]) @ self._precision
        return self._constant - 0.5 * normal.square().sum(dim=1)


def _statistics(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, 11), in the order of `detector.scores.statistics.STATISTICS`."""
    exact = logits.double()
    is_label = _is_label(logits, labels).unsqueeze(1)
    rest = exact.masked_fill(is_label, -torch.inf)
    energy, rest_energy = torch.logsumexp(exact, dim=2), torch.logsumexp(rest, dim=2)
    margin = adp.at_label(exact, labels) - rest.amax(dim=2)
    weights = functional.softmax(rest, dim=2)
    entropy = -(weights * (rest - rest_energy.unsqueeze(2)).masked_fill(is_label, 0.0)).sum(dim=2)
    columns = [
        (-_log_diversity(logits, labels)).clamp(min=_LEAST).log(),
        _log_odds(logits, labels),
        adp.js_divergence(logits).clamp(min=_LEAST).log(),
    ]
    for values in (margin, energy, rest_energy, entropy):
        columns += [values.mean(dim=1), values.var(dim=1, correction=0).clamp(min=_LEAST**2).sqrt()]
    return torch.stack(columns, dim=1)


def _is_label(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, L) bool."""
    return functional.one_hot(labels, logits.shape[2]).bool()
