"""The scores of `detector.scores` once more, with gradients: what an attacker who knows the detector descends by.

Each is a twin in torch of the one that decides, (N, K, L) logits to (N,) float64, lower is more suspicious, the
label left out being the ensemble's own prediction. They may differ from it where a gradient would be infinite;
whether an image is flagged is always said by the score itself.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from detector.scores.mixture import Typical
from detector.scores.score import Score
from detector.scores.typicality import Typicality
from training import adp
from training.adp import log_mean

Surrogate = Callable[[Tensor], Tensor]

# Below these, logarithms and square roots have no gradient worth following.
_LEAST: Final = 1e-12


def surrogate(score: Score) -> Surrogate:
    """A score's twin.

    Args:
        score: One of `detector.scores.SCORES`, fitted where it has to be.
    """
    if isinstance(score, Typicality):
        assert score.fitted is not None, "typicality: fit it first"
        return _Typicality(score.fitted)
    return _TWINS[score.name]


def _log_diversity(logits: Tensor) -> Tensor:
    """Log diversity with training's jitter, which keeps its gradient finite."""
    return adp.log_diversity(logits, _predicted(logits))


def _information(logits: Tensor) -> Tensor:
    """Minus the mutual information, Eq. (9)."""
    return -adp.js_divergence(logits)


def _entropy(logits: Tensor) -> Tensor:
    """Minus the entropy of the averaged prediction."""
    return -adp.prediction_entropy(logits)


def _log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of the averaged prediction's largest entry."""
    log_prediction = log_mean(logits)
    is_label = _is_predicted(logits)
    rest = torch.logsumexp(log_prediction.masked_fill(is_label, -torch.inf), dim=1)
    return log_prediction.gather(1, _predicted(logits)[:, None]).squeeze(1) - rest


def _energy(logits: Tensor) -> Tensor:
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

    def __init__(self, fitted: Typical) -> None:
        numbers = {name: torch.tensor(getattr(fitted, name), dtype=torch.float64) for name in ("centre", "scale")}
        mixtures = fitted.mixtures
        self._centre, self._scale = numbers["centre"], numbers["scale"]
        self._which = torch.tensor(fitted.which)
        self._means = torch.tensor([[part.mean for part in mixture] for mixture in mixtures], dtype=torch.float64)
        self._precisions = torch.tensor(
            [[part.precision for part in mixture] for mixture in mixtures], dtype=torch.float64
        )
        weights = torch.tensor([[part.log_weight for part in mixture] for mixture in mixtures], dtype=torch.float64)
        diagonals = torch.diagonal(self._precisions, dim1=2, dim2=3)
        self._constants = weights + diagonals.log().sum(dim=2) - len(self._centre) / 2 * math.log(2 * math.pi)

    def __call__(self, logits: Tensor) -> Tensor:
        """(N, K, L) to (N,)."""
        device = logits.device
        mixture = self._which.to(device)[_predicted(logits)]
        standard = (_statistics(logits) - self._centre.to(device)) / self._scale.to(device)
        gap = standard[:, None, :] - self._means.to(device)[mixture]
        normal = torch.einsum("ncd,ncde->nce", gap, self._precisions.to(device)[mixture])
        return torch.logsumexp(self._constants.to(device)[mixture] - 0.5 * normal.square().sum(dim=2), dim=1)


def _statistics(logits: Tensor) -> Tensor:
    """(N, 11), in the order of `detector.scores.statistics.STATISTICS`."""
    exact = logits.double()
    is_label = _is_predicted(logits).unsqueeze(1)
    rest = exact.masked_fill(is_label, -torch.inf)
    energy, rest_energy = torch.logsumexp(exact, dim=2), torch.logsumexp(rest, dim=2)
    margin = adp.at_label(exact, _predicted(logits)) - rest.amax(dim=2)
    weights = functional.softmax(rest, dim=2)
    entropy = -(weights * (rest - rest_energy.unsqueeze(2)).masked_fill(is_label, 0.0)).sum(dim=2)
    columns = [
        (-_log_diversity(logits)).clamp(min=_LEAST).log(),
        _log_odds(logits),
        adp.js_divergence(logits).clamp(min=_LEAST).log(),
    ]
    for values in (margin, energy, rest_energy, entropy):
        columns += [values.mean(dim=1), values.var(dim=1, correction=0).clamp(min=_LEAST**2).sqrt()]
    return torch.stack(columns, dim=1)


def _predicted(logits: Tensor) -> Tensor:
    """(N,) the ensemble's class, which has no gradient."""
    return log_mean(logits.detach()).argmax(dim=1)


def _is_predicted(logits: Tensor) -> Tensor:
    """(N, L) bool."""
    return functional.one_hot(_predicted(logits), logits.shape[2]).bool()
