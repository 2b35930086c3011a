"""The Square attack: random search with squares, for models of which nothing but the answers is known.

Each pixel lies at one of the two ends of what the ball allows it, so that an image's state is one bit for each of
its values. The search starts from vertical stripes. Then, query by query, a square at a random place is
brought to a random end, in each channel, and the change is kept where it lowers the loss. Squares grow smaller with
the queries asked.

Source: Andriushchenko, Croce, Flammarion and Hein, "Square Attack: a query-efficient black-box adversarial attack
via random search", ECCV 2020; the times at which squares shrink, which are its authors' for 10,000 queries, are
those of their published code. What differs from them:

- A square that would change nothing takes the other end in every channel instead; theirs is drawn again.
- Squares reach the last row and column of the image.
- The loss takes the log of the averaged prediction where theirs takes logits; see `detector.goal`.
- Every image has its own draws, keyed by seed and row: neither the batch nor its order changes a result.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from detector.ball import FloatImages, ball
from detector.draws import units
from detector.errors import SettingError
from detector.goal import Goal
from detector.oracle import Oracle
from detector.prediction import Floats, Ints

Bits = NDArray[np.bool_]
# Told which share of a batch's work is done, from 0 to 1.
Progress = Callable[[float], object]

# After so many queries of 10,000 the share of changed pixels is halved.
_HALVED_AT: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_OF: Final = 10_000
_USUAL_P: Final = 0.8


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search found for N images.

    Attributes:
        images: (N, C, H, W) float32, of each image the best that was asked about.
        queries: (N,) int64, how many queries that took, the one about the clean image included.
        before: (N,) int64, the predicted classes of the clean images.
        after: (N,) int64, those of `images`.
    """

    images: FloatImages
    queries: Ints
    before: Ints
    after: Ints


@dataclass(frozen=True, kw_only=True)
class Square:
    """The settings of the attack, within an L-infinity ball.

    Attributes:
        eps: The radius, in units of [0, 1] pixels.
        queries: Most queries about each image, the one about the clean image included, at least 2.
        p: Share of the pixels that the first squares change, above 0 and at most 1. The source takes 0.8 for small
            images and for models that were trained against attacks, and 0.05 for undefended ones of 224 x 224.
        seed: Of stripes and squares, at least 0. An image's are drawn from (seed, its source index).

    Raises:
        InputError: A number out of its range.
    """

    method: ClassVar[str] = "square"

    eps: float
    queries: int = 5000
    p: float = _USUAL_P
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:  # NaN fails both
            raise SettingError(
                f"eps: expected a number above 0 and at most 1, in units of [0, 1] pixels, found {self.eps}"
            )
        if not 0 < self.p <= 1:
            raise SettingError(f"p: expected a share above 0 and at most 1, found {self.p}")
        for name, least in (("queries", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name}: expected at least {least}, found {getattr(self, name)}")

    @property
    def name(self) -> str:
        """Method, queries and radius, as in `square5000-0.03`; p where it is not the usual one."""
        strength = f"{self.method}{self.queries}-{self.eps:g}"
        return strength if self.p == _USUAL_P else f"{strength}-p{self.p:g}"

    def describe(self) -> dict[str, Any]:
        """The settings as JSON, defaults filled in."""
        return {"name": self.name, "method": self.method, **asdict(self)}

    def side(self, square: int, height: int, width: int) -> int:
        """Height and width in pixels of a square, counted from 0, in an image of that size."""
        halvings = bisect_left(_HALVED_AT, square / self.queries * _OF)
        return min(max(round(math.sqrt(self.p / 2**halvings * height * width)), 1), height, width)

    def search(
        self, oracle: Oracle, images: FloatImages, goal: Goal, rows: Ints, *, progress: Progress | None = None
    ) -> Searched:
        """Attacks a batch.

        Args:
            oracle: Whom to ask; with room for one query about each image. Where its budget ends the search, the
                best so far is returned.
            images: (N, C, H, W) float32 in [0, 1].
            goal: What is wanted of each image. One that has it is not asked about again; one that has it from the
                start is returned as it is.
            rows: (N,), what an image's draws are keyed by, each at least 0.
            progress: Told how far it is.

        Returns:
            The image with the lowest loss of those asked about, whether or not it is what was wanted; within eps of
            the clean image and within [0, 1], exactly and not up to rounding.
        """
        before = oracle(images).argmax(axis=1)
        after, queries = before.copy(), np.ones(len(images), dtype=np.int64)
        low, high = ball(images, self.eps)
        at_high = np.zeros(images.shape, dtype=np.bool_)
        lowest = np.full(len(images), np.inf)
        left = np.flatnonzero(~goal.reached(before))
        for query in range(1, self.queries):
            if not (len(left) and oracle.covers(len(left))):
                break
            tried = self._propose(at_high[left], rows[left], query)
            answers = oracle(np.where(tried, high[left], low[left]))
            queries[left] += 1
            wanted, classes = goal.only(left), answers.argmax(axis=1)
            loss, reached = wanted.loss(answers), wanted.reached(classes)
            better = reached | (loss < lowest[left])
            kept = left[better]
            at_high[kept], lowest[kept], after[kept] = tried[better], loss[better], classes[better]
            left = left[~reached]
            if progress is not None:
                progress((query + 1) / self.queries)
        searched = (queries > 1)[:, None, None, None]
        found = np.where(searched, np.where(at_high, high, low), images)
        return Searched(images=found, queries=queries, before=before, after=after)

    def _propose(self, at_high: Bits, rows: Ints, query: int) -> Bits:
        """What to ask about next, as the end that each pixel lies at: (N, C, H, W)."""
        count, channels, height, width = at_high.shape
        if query == 1:
            ends = units(rows, np.arange(channels * width), seed=self.seed, purpose="square: stripes") < 0.5
            return np.broadcast_to(ends.reshape(count, channels, 1, width), at_high.shape)
        side = self.side(query - 2, height, width)
        draws = units(rows, query * (2 + channels) + np.arange(2 + channels), seed=self.seed, purpose="square")
        inside = _span(draws[:, 0], side, height)[:, None, :, None] & _span(draws[:, 1], side, width)[:, None, None, :]
        tried = np.where(inside, (draws[:, 2:] < 0.5)[:, :, None, None], at_high)
        # To ask about what is there already would be a query lost.
        idle = (tried == at_high).all(axis=(1, 2, 3))[:, None, None, None]
        return np.where(inside & idle, ~tried, tried)


def _span(draws: Floats, side: int, length: int) -> Bits:
    """Which of so many pixels a square covers, each place as likely as another: (N,) in [0, 1) to (N, length)."""
    start = np.floor(draws * (length - side + 1))[:, None]
    pixels = np.arange(length)
    return np.asarray((pixels >= start) & (pixels < start + side))
