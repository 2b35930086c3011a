"""The ADP objective, Eq. (1) to (5) of the paper, as pure functions of (N, K, L) logits.

Everything is computed in float64, whatever the networks compute in: the arrays are small, and the
gradient of the diversity term is where float32 runs out of digits. Functions of one image give one
number per image; only the loss takes the mean over the batch, as Algorithm 1 does.

The diversity here is the one to train with: a jitter on the Gram matrix keeps its gradient bounded
when members agree. The one to score with is `detector.diversity`, which has no jitter and stays
exact there. They differ by at most K * jitter / (the smallest eigenvalue of the Gram matrix).
"""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from detector.errors import InputError
from detector.prediction import check_member_count

# What the authors' code adds to the Gram matrix.
JITTER: Final = 1e-6


def log_prediction(logits: Tensor) -> Tensor:
    """The log of the ensemble's prediction, Eq. (1): the log of the mean of the members' softmax.

    Args:
        logits: (N, K, L), any floating dtype.

    Returns:
        (N, L) float64. As a log, so that a class near certainty still has a gradient.

    Raises:
        InputError: Not (N, K, L), or a K and L without log diversity.
    """
    _check(logits)
    return log_mean(logits)


def log_mean(logits: Tensor) -> Tensor:
    """The same of any number of members, one alone included, since it needs no diversity: (N, K, L) to (N, L)."""
    return torch.logsumexp(functional.log_softmax(logits.double(), dim=2), dim=1) - math.log(logits.shape[1])


def ensemble_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The ensemble cross-entropy, Eq. (2): the sum of the members' own.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the true labels.

    Returns:
        (N,) float64, at least 0.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    _check(logits, labels)
    log_probabilities = functional.log_softmax(logits.double(), dim=2)
    return -at_label(log_probabilities, labels).sum(dim=1)


def log_diversity(logits: Tensor, labels: Tensor, *, jitter: float = JITTER) -> Tensor:
    """The log of the ensemble diversity, Eq. (3), with a gradient that stays finite.

    The members' predictions without the label, each of unit length, are the columns of M; this is
    log det(M^T M + jitter I). The softmax is never formed: its denominator cancels in the
    normalisation, and the largest of the other logits is subtracted before the exponential.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the label to leave out: in training, the true one.
        jitter: Added to the diagonal, the deviation from Eq. (3). It raises the value by at most
            K * jitter / (smallest eigenvalue of M^T M), and bounds it from below by
            about (K - 1) * log(jitter), where members agree.

    Returns:
        (N,) float64, at most K * log(1 + jitter); NaN where logits are.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    members = _check(logits, labels)
    left_out = functional.one_hot(labels, logits.shape[2]).bool().unsqueeze(1)
    others = logits.double().masked_fill(left_out, -torch.inf)
    # The largest cancels in the normalisation, so no gradient runs through it. Lengths are at least 1.
    weights = torch.exp(others - others.amax(dim=2, keepdim=True).detach())
    unit = weights / torch.linalg.vector_norm(weights, dim=2, keepdim=True)
    gram = unit @ unit.transpose(1, 2) + jitter * torch.eye(members, dtype=unit.dtype, device=unit.device)
    # By elimination, column after column, so that a compiler can make one kernel of it and a GPU can record it; the
    # jitter keeps the pivots away from 0. Logits that are not numbers give a loss that is none, for the loop to report.
    log_det = torch.zeros_like(gram[:, 0, 0])
    for _ in range(members):
        pivot, column = gram[:, :1, :1], gram[:, 1:, :1]
        log_det = log_det + pivot.reshape(-1).log()
        gram = gram[:, 1:, 1:] - column * column.transpose(1, 2) / pivot
    return log_det


def prediction_entropy(logits: Tensor, *, classes: Tensor | None = None) -> Tensor:
    """The Shannon entropy of the ensemble's prediction, H(F) in Eq. (5); natural log.

    Args:
        logits: (N, K, L), any floating dtype.
        classes: (N, m) int64, the classes it is taken over, the prediction made to sum to 1 on them
            (the sampling of Appendix B.2); None for all.

    Returns:
        (N,) float64, from 0 to log L, or log m.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    log_mean = log_prediction(logits)
    if classes is not None:
        if classes.ndim != 2 or len(classes) != len(logits):
            raise InputError(f"classes: expected shape ({len(logits)}, m), found {tuple(classes.shape)}")
        log_mean = functional.log_softmax(log_mean.gather(1, classes), dim=1)
    return -(log_mean.exp() * log_mean).sum(dim=1)


def js_divergence(logits: Tensor) -> Tensor:
    """The JS-divergence of the members' predictions, Eq. (9): a diagnostic, since it cannot be trained with.

    The entropy of the mean less the mean of the entropies, which is also the mutual information of the
    prediction and the member that made it.

    Args:
        logits: (N, K, L), any floating dtype.

    Returns:
        (N,) float64, from 0, where all members agree, to log K.

    Raises:
        InputError: Not (N, K, L), or a K and L without log diversity.
    """
    _check(logits)
    log_members = functional.log_softmax(logits.double(), dim=2)
    return prediction_entropy(logits) + (log_members.exp() * log_members).sum(dim=2).mean(dim=1)


def terms(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float = 1.0,
    classes: Tensor | None = None,
) -> Tensor:
    """What training minimises, and what it is made of: means over the batch, as in Algorithm 1.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the true labels.
        alpha: Weight of the entropy of the prediction, at least 0. Eq. (7) says which confidence
            it leads to: 2 at K = 3, L = 10 gives 0.588 on the true label.
        beta: Weight of the log diversity, at least 0. With alpha = beta = 0 members train
            independently of each other.
        temperature: Logits are divided by it first (Appendix B.2).
        classes: What the entropy is taken over, see `prediction_entropy`.

    Returns:
        (4,) float64: the loss, Eq. (2) less Eq. (5); the ensemble cross-entropy of Eq. (2); the entropy
        and the log diversity of Eq. (5), each 0 where its weight is.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    logits = logits.double() / temperature
    cross_entropy = ensemble_cross_entropy(logits, labels).mean()
    # A weight of 0 leaves the term out altogether: 0 times a gradient that overflowed is not 0.
    nothing = torch.zeros_like(cross_entropy)
    entropy = prediction_entropy(logits, classes=classes).mean() if alpha else nothing
    diversity = log_diversity(logits, labels).mean() if beta else nothing
    return torch.stack([cross_entropy - alpha * entropy - beta * diversity, cross_entropy, entropy, diversity])


def _check(logits: Tensor, labels: Tensor | None = None) -> int:
    """Refuses shapes that do not fit; returns K."""
    if logits.ndim != 3:
        raise InputError(f"logits: expected shape (N, K, L), found {tuple(logits.shape)}")
    count, members, classes = logits.shape
    check_member_count(members, classes)
    if labels is not None and labels.shape != (count,):
        raise InputError(f"labels: expected shape ({count},), found {tuple(labels.shape)}")
    return members


def at_label(values: Tensor, labels: Tensor) -> Tensor:
    """(N, K, L) values at each image's label: (N, K)."""
    return values.gather(2, labels[:, None, None].expand(-1, values.shape[1], 1)).squeeze(2)
