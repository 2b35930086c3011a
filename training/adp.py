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
    members = _check(logits)
    return torch.logsumexp(functional.log_softmax(logits.double(), dim=2), dim=1) - math.log(members)


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
    return -_at(log_probabilities, labels).sum(dim=1)


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
    # Without the check, logits that are not numbers give a loss that is not a number, for the loop to report.
    factor, _ = torch.linalg.cholesky_ex(gram)
    return 2 * torch.diagonal(factor, dim1=1, dim2=2).log().sum(dim=1)


def prediction_entropy(logits: Tensor) -> Tensor:
    """The Shannon entropy of the ensemble's prediction, H(F) in Eq. (5); natural log.

    Args:
        logits: (N, K, L), any floating dtype.

    Returns:
        (N,) float64, from 0 to log L.

    Raises:
        InputError: Not (N, K, L), or a K and L without log diversity.
    """
    log_mean = log_prediction(logits)
    return -(log_mean.exp() * log_mean).sum(dim=1)


def regulariser(logits: Tensor, labels: Tensor, *, alpha: float, beta: float) -> Tensor:
    """The ADP regulariser, Eq. (5): alpha * H(F) + beta * log ED; higher is more diverse.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the true labels.
        alpha: Weight of the entropy of the prediction, at least 0. Eq. (7) says which confidence
            it leads to: 2 at K = 3, L = 10 gives 0.588 on the true label.
        beta: Weight of the log diversity, at least 0.

    Returns:
        (N,) float64.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    _check(logits, labels)
    total = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    # A weight of 0 leaves the term out altogether: 0 times a gradient that overflowed is not 0.
    if alpha:
        total = total + alpha * prediction_entropy(logits)
    if beta:
        total = total + beta * log_diversity(logits, labels)
    return total


def loss(logits: Tensor, labels: Tensor, *, alpha: float, beta: float) -> Tensor:
    """What training minimises: the mean over the batch of Eq. (2) minus Eq. (5), as in Algorithm 1.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the true labels.
        alpha: See `regulariser`.
        beta: See `regulariser`. With alpha = beta = 0 members train independently of each other.

    Returns:
        A float64 scalar.

    Raises:
        InputError: Shapes that do not fit, or a K and L without log diversity.
    """
    return (ensemble_cross_entropy(logits, labels) - regulariser(logits, labels, alpha=alpha, beta=beta)).mean()


def _check(logits: Tensor, labels: Tensor | None = None) -> int:
    """Refuses shapes that do not fit; returns K."""
    if logits.ndim != 3:
        raise InputError(f"logits: expected shape (N, K, L), found {tuple(logits.shape)}")
    count, members, classes = logits.shape
    check_member_count(members, classes)
    if labels is not None and labels.shape != (count,):
        raise InputError(f"labels: expected shape ({count},), found {tuple(labels.shape)}")
    return members


def _at(values: Tensor, labels: Tensor) -> Tensor:
    """(N, K, L) values at each image's label: (N, K)."""
    return values.gather(2, labels[:, None, None].expand(-1, values.shape[1], 1)).squeeze(2)
