"""Images through the members in constant memory: what the members say is kept, the pixels are not.

Where the work has a folder to be kept in, finished parts are written there, and the same work begun
again goes on behind them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.detector import Detector
from detector.errors import InputError
from detector.imageset import Images
from detector.parts import pixel_digests
from detector.source import ImageSource
from detector.unfinished import Unfinished

BATCH: Final = 64
"""Images in one run of the members."""
PART: Final = 64 * BATCH
"""Images whose answers are kept together."""

Kept = dict[str, NDArray[Any]]
"""Arrays with a row for each image, or for some of them."""
Keep = Callable[[NDArray[np.float32], int], Kept]
"""What to keep of some images' logits, (N, K, L), the first of them being image number so and so."""


def scan(
    detector: Detector, images: ImageSource, keep: Keep, *, name: str, unfinished: Unfinished | None = None
) -> Kept:
    """Runs the members over all images and keeps what is asked for, and of each image the digest of its pixels.

    Args:
        detector: Runs the members.
        images: Any number of images.
        keep: Called with the logits of a batch and the number of its first image.
        name: Of the images, for messages and the progress bar.
        unfinished: Where finished parts are kept; by default nowhere.

    Returns:
        What `keep` returned, for all images; and `pixels`, (N, 32) uint8, a SHA-256 for each.

    Raises:
        InputError: Images that do not fit the bundle, or a member that answers with NaN; names the image.
    """
    parts: list[Kept] = []
    with tqdm(total=len(images), desc=f"scoring {name}", unit=" images", disable=None, leave=False) as bar:
        while unfinished is not None and (part := unfinished.load(len(parts))) is not None:
            parts.append(part)
            bar.update(len(part["pixels"]))
        work = _Scan(detector=detector, images=images, keep=keep, name=name, bar=bar)
        for part in work.parts(sum(len(one["pixels"]) for one in parts)):
            if unfinished is not None:
                unfinished.save(len(parts), **part)
            parts.append(part)
    return _joined(parts)


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """Images on their way through the members; see `scan`."""

    detector: Detector
    images: ImageSource
    keep: Keep
    name: str
    bar: Any

    def parts(self, start: int) -> Iterator[Kept]:
        """What is kept of the images from a given one on, a part at a time."""
        batches: list[Kept] = []
        first = start
        for batch in self.images.batches(BATCH, start):
            checked = self.detector.bundle.input.check(batch, self.name)
            batches.append({**self.keep(self._logits(checked, first), first), "pixels": pixel_digests(checked)})
            first += len(batch)
            self.bar.update(len(batch))
            if first == len(self.images) or (first - start) % PART == 0:
                yield _joined(batches)
                batches.clear()

    def _logits(self, images: Images, first: int) -> NDArray[np.float32]:
        """The members' answers, which are numbers; `first` is the number of the first image."""
        logits = self.detector.logits(images)
        finite = np.isfinite(logits).all(axis=(1, 2))
        if not finite.all():
            number = first + int(np.flatnonzero(~finite)[0])
            raise InputError(f"{self.name}: expected finite logits, found NaN or infinity for image {number}")
        return logits


def _joined(parts: list[Kept]) -> Kept:
    """Parts in a row as one."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def judged(detector: Detector, logits: NDArray[np.float32], first: int) -> Kept:
    """To keep, by a calibrated detector: score, class and flag of each image."""
    del first
    verdicts = detector.judge(logits)
    assert verdicts.score is not None
    assert verdicts.adversarial is not None
    return {"scores": verdicts.score, "classes": verdicts.labels, "flags": verdicts.adversarial}
