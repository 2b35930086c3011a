"""What gradient attacks climb, as functions of (N, K, L) logits: all in float64, K = 1 for a single member.

Everything starts from the log of the averaged prediction, never from probabilities: where every member is
certain, a softmax rounds to 0 or 1, its gradient to zero, and an attack that stalls looks like robustness.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from detector.errors import InputError
from training.adp import at_label, log_mean


def ensemble_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-log F_y, where F is the mean of the members' softmax, Eq. (1).

    A member's -log F_y is softplus(logsumexp of the other logits - the label's logit). In this form,
    and in float64, the gradient of a member that is certain is small but right: a softmax, and a
    log-softmax too, would round it to zero or drop the label's part of it.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64.

    Returns:
        (N,) float64, at least 0; higher is closer to another answer than the label.

    Raises:
        InputError: Shapes that do not fit.
    """
    _check(logits, labels)
    members, classes = logits.shape[1:]
    exact = logits.double()
    is_label = functional.one_hot(labels, classes).bool().unsqueeze(1)
    others = torch.logsumexp(exact.masked_fill(is_label, -torch.inf), dim=2)
    own = at_label(exact, labels)
    member_losses = functional.softplus(others - own, threshold=50.0)
    return math.log(members) - torch.logsumexp(-member_losses, dim=1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log F_y less the log of the largest other class's, F being the averaged prediction, Eq. (1).

    For a single member it is the difference of its logits, as in Carlini and Wagner, "Towards Evaluating the
    Robustness of Neural Networks", 2017; the log of the mean probability takes the logits' place for more.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64.

    Returns:
        (N,) float64; below 0 where the prediction is another class.

    Raises:
        InputError: Shapes that do not fit.
    """
    _check(logits, labels)
    log_prediction = log_mean(logits)
    is_label = functional.one_hot(labels, logits.shape[2]).bool()
    others = log_prediction.masked_fill(is_label, -torch.inf).amax(dim=1)
    return log_prediction.gather(1, labels[:, None]).squeeze(1) - others


def repeated_softmax_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of the softmax of the averaged *probabilities*: what the paper's figures rest on.

    Its authors' code hands probabilities to a loss that expects logits. As they lie within [0, 1], the second
    softmax squeezes them to between 1 / (1 + (L - 1) e) and e / (e + L - 1), and nothing much is left to climb.
    For comparison with the paper, never to measure robustness.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64.

    Returns:
        (N,) float64.

    Raises:
        InputError: Shapes that do not fit.
    """
    _check(logits, labels)
    return functional.cross_entropy(log_mean(logits).exp(), labels, reduction="none")


def _check(logits: Tensor, labels: Tensor) -> None:
    """Refuses shapes that do not fit."""
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise InputError(
            f"logits and labels: expected shapes (N, K, L) and (N,), found {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
