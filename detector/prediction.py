"""The ensemble's prediction: the mean of the members' softmax, Eq. (1) of the paper.

Also the one place where logits are checked, since everything else is computed from them.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_MEMBERS: Final = 2


def check_member_count(members: int, classes: int) -> None:
    """Refuses a K and L for which log diversity is undefined.

    Args:
        members: K.
        classes: L.

    Raises:
        InputError: K < 2, or K > L - 1: K vectors in L - 1 dimensions are linearly dependent, so
            the Gram matrix of Eq. (3) is singular for every input.
    """
    if members < MIN_MEMBERS:
        raise InputError(f"members: expected at least {MIN_MEMBERS}, found {members}; one network has no diversity")
    if members > classes - 1:
        raise InputError(
            f"members: expected at most {classes - 1} for {classes} classes, found {members}; with more members "
            "than classes less one the Gram matrix is singular, and log diversity undefined, for every input"
        )


def check_logits(logits: ArrayLike) -> NDArray[np.floating[Any]]:
    """Returns logits as a finite (N, K, L) float32 or float64 array.

    Raises:
        InputError: Another shape or dtype, NaN or infinity, or a K and L without log diversity.
    """
    array = np.asarray(logits)
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"logits: expected float32 or float64, found {array.dtype}")
    if array.ndim != 3:
        raise InputError(f"logits: expected shape (N, K, L), found {array.shape}")
    check_member_count(array.shape[1], array.shape[2])
    finite = np.isfinite(array)
    if not finite.all():
        image, member, label = np.argwhere(~finite)[0]
        raise InputError(
            f"logits: expected finite numbers, found {array[image, member, label]} "
            f"at image {image}, member {member}, class {label}"
        )
    return array


def check_labels(labels: ArrayLike, count: int, classes: int, where: str = "labels") -> Ints:
    """Returns labels as a (N,) int64 array within the classes.

    Raises:
        InputError: Another shape, not integers, or a label outside 0 .. L - 1.
    """
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{where}: expected integers, found {array.dtype}")
    if array.shape != (count,):
        raise InputError(f"{where}: expected shape ({count},), found {array.shape}")
    outside = (array < 0) | (array >= classes)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(f"{where}: expected 0 to {classes - 1}, found {array[first]} at image {first}")
    return array.astype(np.int64)


def member_probabilities(logits: NDArray[np.floating[Any]]) -> Floats:
    """Each member's softmax: (N, K, L) logits to (N, K, L) float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def mean_prediction(logits: ArrayLike) -> Floats:
    """The ensemble's prediction, Eq. (1).

    Args:
        logits: (N, K, L), float32 or float64.

    Returns:
        (N, L) float64, rows summing to 1. The ensemble's class is the argmax of a row, the
        lowest index on ties, which is what `numpy.argmax` does.

    Raises:
        InputError: See `check_logits`.
    """
    return np.asarray(member_probabilities(check_logits(logits)).mean(axis=1))
