"""Log ensemble diversity, Eq. (3) of the paper: the score that tells honest from adversarial.

The members' predictions without one label, each scaled to unit length, span a volume; its square
is the ensemble diversity. Members that were trained to disagree about the wrong classes span much
of it on honest images, and little on adversarial ones, so LOWER IS MORE SUSPICIOUS.

The textbook formula (softmax, normalise, determinant of the Gram matrix) fails exactly where
inputs are most suspicious: softmax underflows when a class is certain, and the Gram matrix squares
the condition number of nearly parallel members. So here
- the softmax is never formed: its denominator cancels in the normalisation, and what is left
  depends on the other logits only, relative to the largest of them;
- the volume comes from Gaussian elimination, M = L D U: D takes up sizes that differ by forty orders
  of magnitude, and what is left, L, is well conditioned. Each step takes the column whose largest
  entry stands out most, so that what it subtracts from the others is small and they keep their
  digits. Complete pivoting, and a Householder QR with sorted rows and pivoted columns, lose up to
  all of them where the members' logits spread over 100 and K is close to L.
No jitter is added. Training needs one for its gradient; see `training.adp`.

Where the members are far from parallel, the Gram matrix is harmless and several times faster: with unit
diagonal, its condition number is at most e K / det. So its determinant is taken where it is large
enough, and the elimination where it is not; which of the two depends on the image alone.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detector.prediction import Floats, Ints, check_labels, check_logits, mean_prediction

# Images are worked on in blocks of about this many numbers: what fits into a core's cache, and, where there are many
# small steps, what bounds memory.
_CACHE: Final = 1 << 17
_MEMORY: Final = 1 << 21
# From here on the Gram matrix gives the log of its determinant to within 1e-9 of max(1, |value|).
_HARMLESS: Final = -10.0
# Below this the volume may be rounding noise around zero, and members are compared bit by bit.
_PERHAPS_SINGULAR: Final = -50.0


def log_diversity(logits: ArrayLike, labels: ArrayLike | None = None) -> Floats:
    """Log ensemble diversity, the log of Eq. (3): natural log of det(M^T M).

    Args:
        logits: (N, K, L), float32 or float64, finite, 2 <= K <= L - 1.
        labels: (N,) integers, the label to leave out of each image's predictions. By default the
            ensemble's own prediction, which is all a server can know. The paper leaves out the
            true label; that belongs to training and to studies, since as a score it leaks.

    Returns:
        (N,) float64, at most 0; lower is more suspicious. Minus infinity where two members give
        the same prediction apart from that label. The error over max(1, |value|) is below 1e-9
        (1e-6 where members are collinear to within 1e-9). Logits of non-left-out labels that lie
        more than 700 below the member's largest count as minus infinity.

    Raises:
        InputError: Another shape or dtype, non-finite logits, labels out of range, K < 2, or
            K > L - 1.
    """
    array = check_logits(logits)
    count, _, classes = array.shape
    left_out = mean_prediction(array).argmax(axis=1) if labels is None else check_labels(labels, count, classes)
    return log_diversity_without(array, left_out)


def log_diversity_without(logits: NDArray[np.floating[Any]], left_out: Ints) -> Floats:
    """`log_diversity` of arguments that have been checked."""
    return _in_blocks(logits.shape, lambda rows: _weights(logits[rows], left_out[rows]))


def log_diversity_of(weights: Floats) -> Floats:
    """`log_diversity` of members' predictions without a label, scaled so that the largest entry is 1: (N, K, L)."""
    return _in_blocks(weights.shape, weights.__getitem__)


def _in_blocks(shape: tuple[int, ...], weights: Callable[[slice | Ints], Floats]) -> Floats:
    """Log diversity of so many images, whose scaled predictions are asked for a few at a time."""
    count, members, classes = shape
    value = np.empty(count)
    for block in _blocks(count, _CACHE // (members * classes)):
        value[block] = _by_gram(weights(block))
    harmful = np.flatnonzero(value < _HARMLESS)
    for block in _blocks(len(harmful), _MEMORY // (members * classes)):
        rows = harmful[block]
        value[rows] = _by_elimination(np.swapaxes(weights(rows), 1, 2))
    return np.asarray(np.minimum(value, 0.0))


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Images in blocks of so many, at least 1."""
    return (slice(start, start + max(1, size)) for start in range(0, count, max(1, size)))


def _weights(logits: NDArray[np.floating[Any]], left_out: Ints) -> Floats:
    """Each member's prediction without a label, scaled so that its largest entry is 1: (n, K, L)."""
    others = logits.astype(np.float64)
    others[np.arange(len(others)), :, left_out] = -np.inf
    return np.asarray(np.exp(others - others.max(axis=2, keepdims=True)))


def _by_gram(rows: Floats) -> Floats:
    """Log determinant of the Gram matrix of the scaled rows of each (K, L) matrix; minus infinity if it is no good."""
    gram = rows @ np.swapaxes(rows, 1, 2)
    lengths = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    sign, value = np.linalg.slogdet(gram / (lengths[:, :, None] * lengths[:, None, :]))
    return np.where(sign > 0, value, -np.inf)


def _by_elimination(columns: Floats) -> Floats:
    """Log diversity of members that may be nearly parallel: (n, L, K), a member is a column."""
    lengths = np.log(np.linalg.norm(columns, axis=1)).sum(axis=1)
    value = np.asarray(2.0 * (_log_volume(columns) - lengths))
    for image in np.flatnonzero(value < _PERHAPS_SINGULAR):
        if len({column.tobytes() for column in columns[image].T}) < columns.shape[2]:
            value[image] = -np.inf
    return value


def _log_volume(columns: Floats) -> Floats:
    """Log of the volume spanned by the columns of each (n, L, K) matrix."""
    # A copy with the images last: short axes are slow to go along.
    matrix = np.array(columns.transpose(1, 2, 0), order="C")
    _, members, count = matrix.shape
    images = np.arange(count)
    pivots = np.empty((members, count))
    for step in range(members):
        rows, rest = matrix[step:], matrix[step:, step:]
        top, largest = _pivot(rest, images)
        rows[top, :, images], rows[0] = rows[0].T.copy(), rows[top, :, images].T
        rest[:, largest, images], rest[:, 0] = rest[:, 0].copy(), rest[:, largest, images]
        pivot = rest[0, 0]
        pivots[step] = pivot
        # All that is left is zero where the pivot is.
        factors = rest[1:, 0] / np.where(pivot == 0, 1.0, pivot)
        rest[1:, 1:] -= factors[:, None] * rest[:1, 1:]
        rest[1:, 0] = factors
    for column in range(members):
        matrix[:column, column], matrix[column, column] = 0.0, 1.0
    # As C has it, or the order of the sum below, and so its last bit, would depend on how many images there are.
    lower = np.ascontiguousarray(matrix.transpose(2, 0, 1))
    corners = np.diagonal(np.linalg.qr(lower, mode="r"), axis1=1, axis2=2)
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(pivots))
    volume = np.zeros(count)
    for one in logs:  # in this order for any number of images, which a sum along the axis does not promise
        volume += one
    return np.asarray(volume + np.log(np.abs(corners)).sum(axis=1))


def _pivot(rest: Floats, images: Ints) -> tuple[Ints, Ints]:
    """In each of n matrices, (l, k, n), row and column of the entry that stands out most from its column."""
    sizes = np.abs(rest)
    tops = sizes.argmax(axis=0)
    entries = (tops, np.arange(rest.shape[1])[:, None], images)
    largest = sizes[entries]
    sizes[entries] = 0.0
    second = sizes.max(axis=0)
    column = np.divide(second, largest, out=np.full_like(largest, np.inf), where=largest > 0).argmin(axis=0)
    return tops[column, images], column
