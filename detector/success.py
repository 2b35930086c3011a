"""Which attacks succeeded, where their file does not say: told from the classes of the clean images they came from."""

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from detector.parts import Source
from detector.prediction import Ints

Truth = tuple[int, int | None]
"""The ensemble's class of a clean image, and the true one where it is known."""


def truths(sources: Sequence[Source], classes: Ints, labels: Ints | None) -> dict[Source, Truth]:
    """Of n clean images, by their sources: the ensemble's classes (n,) and the true ones (n,), or None."""
    own = repeat(None) if labels is None else labels.tolist()
    return dict(zip(sources, zip(classes.tolist(), own, strict=False), strict=False))


def succeeded(
    sources: Sequence[Source], classes: Ints, labels: Ints | None, known: Mapping[Source, Truth]
) -> NDArray[np.bool_] | None:
    """Which attacks succeeded: the clean image of the source is classified right, the attacked one wrong.

    Args:
        sources: Of n attacked images.
        classes: (n,) the ensemble's class of each.
        labels: (n,) the true ones as the attacked images' file has them, or None; counted where the clean image
            has none, since some files hold an attack's target there.
        known: The clean images by their source.

    Returns:
        (n,) bool; None where a true class, or the clean image of a source, is not known.
    """
    own = repeat(None) if labels is None else labels.tolist()
    found = []
    for source, answer, label in zip(sources, classes.tolist(), own, strict=False):
        before, truth = known.get(source, (None, None))
        truth = label if truth is None else truth
        if before is None or truth is None:
            return None
        found.append(before == truth != answer)
    return np.array(found, dtype=np.bool_)
