"""The images nearest the threshold, on either side: only these few are read, however many were scored."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.imageset import Images, as_floats
from detector.page.scored import Scored
from detector.prediction import Ints
from detector.threshold import Threshold

COUNT: Final = 6
"""Images on each side."""
_LARGEST: Final = 160
"""Pixels on the longer side of what is shown; larger images are made smaller."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An image as it is shown.

    Attributes:
        uri: A PNG as a data URI.
        width: Pixels.
        height: Pixels.
        name: Of its file, or its row in one.
        kind: The attack that made it; empty for a clean image.
        answer: The ensemble's class.
        truth: The true class; empty where it is not known.
        score: The calibrated score.
        margin: How far that lies above the threshold.
    """

    uri: str
    width: int
    height: int
    name: str
    kind: str
    answer: str
    truth: str
    score: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Images on either side of the threshold, by their distance to it from left to right.

    Attributes:
        flagged: Just below it.
        passed: At it or just above.
    """

    flagged: Sequence[Shown]
    passed: Sequence[Shown]

    @classmethod
    def of(cls, sets: Mapping[str, Scored], threshold: Threshold, names: Sequence[str]) -> "Nearest":
        """The nearest of some sets of images together.

        Args:
            sets: Images by the attack that made them; clean ones by the empty name.
            threshold: What they are compared with.
            names: (L,) of the classes.
        """
        shown = [one for kind, scored in sets.items() for one in _nearest(kind, scored, threshold, names)]
        shown.sort(key=lambda one: one.margin)
        return cls(
            flagged=[one for one in shown if one.margin < 0][-COUNT:],
            passed=[one for one in shown if one.margin >= 0][:COUNT],
        )


def closest(margins: NDArray[np.float64]) -> Ints:
    """The rows of the few margins nearest 0 on either side, (n,) to at most 2 COUNT; the first of equal ones."""
    flagged, passed = np.flatnonzero(margins < 0), np.flatnonzero(margins >= 0)
    below = flagged[np.argsort(-margins[flagged], kind="stable")[:COUNT]]
    above = passed[np.argsort(margins[passed], kind="stable")[:COUNT]]
    return np.concatenate([below, above])


def _nearest(kind: str, scored: Scored, threshold: Threshold, names: Sequence[str]) -> list[Shown]:
    """Those of one set; its images are read in one pass."""
    margins = scored.margins(threshold)
    rows = closest(margins)
    source, labels = scored.images.source, scored.images.labels
    found = []
    for row, image in zip(rows.tolist(), scored.images.take(rows), strict=True):
        place = int(scored.images.rows[row])
        picture = _picture(image)
        found.append(
            Shown(
                uri=_uri(picture),
                width=picture.width,
                height=picture.height,
                name=f"image {place}" if source.names is None else source.names[place],
                kind=kind,
                answer=names[scored.classes[row]],
                truth="" if labels is None else names[labels[row]],
                score=float(scored.scores[row]),
                margin=float(margins[row]),
            )
        )
    return found


def _picture(image: Images) -> Image.Image:
    """One image (C, H, W) in grey or colour; of other numbers of channels, their mean in grey."""
    floats = as_floats(image)
    if len(floats) not in (1, 3):
        floats = floats.mean(axis=0, keepdims=True)
    pixels = np.ascontiguousarray((floats.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((_LARGEST, _LARGEST))  # leaves smaller ones as they are
    return picture


def _uri(picture: Image.Image) -> str:
    """A PNG as a data URI."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
