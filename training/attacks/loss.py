"""What gradient attacks climb: the negative log of the ensemble's probability of the true label."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from detector.errors import InputError


def ensemble_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-log F_y, where F is the mean of the members' softmax, Eq. (1).

    A member's -log F_y is softplus(logsumexp of the other logits - the label's logit). In this form,
    and in float64, the gradient of a member that is certain is small but right: a softmax, and a
    log-softmax too, would round it to zero or drop the label's part of it, and the attack would stall
    or wander and look like robustness.

    Args:
        logits: (N, K, L), any floating dtype.
        labels: (N,) int64, the true labels.

    Returns:
        (N,) float64, at least 0; higher is closer to a wrong answer.

    Raises:
        InputError: Shapes that do not fit.
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:1]:
        raise InputError(
            f"logits and labels: expected shapes (N, K, L) and (N,), found {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    members, classes = logits.shape[1:]
    exact = logits.double()
    is_label = functional.one_hot(labels, classes).bool().unsqueeze(1)
    others = torch.logsumexp(exact.masked_fill(is_label, -torch.inf), dim=2)
    own = exact.masked_select(is_label.expand_as(exact)).reshape(-1, members)
    member_losses = functional.softplus(others - own, threshold=50.0)
    return math.log(members) - torch.logsumexp(-member_losses, dim=1)
