"""Mild changes of honest images: how many are flagged that nobody attacked?

Light, focus, compression and posture change from one honest image to the next. A detector that
takes each such change for an attack is of no use, however well it catches attacks; so the share of
changed clean images that is flagged stands beside the share of clean ones.

Every change takes float images in [0, 1] and returns such; random ones draw for each image by
itself, from the seed and the image's number, so that no image depends on its batch.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from detector.detector import Detector
from detector.errors import InputError, SettingError
from detector.imageset import as_floats
from detector.prediction import Floats, check_logits
from detector.source import ImageSource, Selection
from detector.verdicts import Verdicts

MOST: Final = 1000
"""So many images are changed, evenly spaced, where there are more."""
_BATCH: Final = 64
_COLOURS: Final = 3

Pixels = NDArray[np.float32]


class Shift(Protocol):
    """A mild change."""

    @property
    def name(self) -> str:
        """For tables and files, for example `brightness x0.8`."""

    def apply(self, image: Pixels, number: int) -> Pixels:
        """One image (C, H, W) changed; `number` tells it from the others."""


def _check(name: str, value: float, low: float, high: float) -> None:
    """Raises unless low < value <= high."""
    if not low < value <= high:
        raise SettingError(f"{name}: expected more than {low} and at most {high}, found {value}")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Gaussian noise, cut off at 0 and 1.

    Attributes:
        sigma: Its standard deviation, in units of [0, 1] pixels.
        seed: Of the draw, together with the image's number.
    """

    sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        _check("sigma", self.sigma, 0, 1)

    @property
    def name(self) -> str:
        """`noise 0.02`."""
        return f"noise {self.sigma:g}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Adds the noise."""
        noise = np.random.default_rng([self.seed, number]).standard_normal(image.shape, dtype=np.float32)
        return np.clip(image + np.float32(self.sigma) * noise, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Blur:
    """A Gaussian blur; beyond the edge the edge's pixels go on.

    Attributes:
        sigma: Its standard deviation in pixels.
    """

    sigma: float

    def __post_init__(self) -> None:
        _check("sigma", self.sigma, 0, 100)

    @property
    def name(self) -> str:
        """`blur 1`."""
        return f"blur {self.sigma:g}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Blurs rows, then columns."""
        del number
        radius = int(np.ceil(3 * self.sigma))
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        weights /= weights.sum()
        blurred = image.astype(np.float64)
        for axis in (1, 2):
            margin = [(0, 0)] * 3
            margin[axis] = (radius, radius)
            windows = np.lib.stride_tricks.sliding_window_view(np.pad(blurred, margin, "edge"), len(weights), axis)
            blurred = windows @ weights
        return np.asarray(np.clip(blurred, 0, 1), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Every pixel times a factor, cut off at 1.

    Attributes:
        factor: Below 1 darker, above 1 brighter.
    """

    factor: float

    def __post_init__(self) -> None:
        _check("factor", self.factor, 0, 100)

    @property
    def name(self) -> str:
        """`brightness x0.8`."""
        return f"brightness x{self.factor:g}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Multiplies."""
        del number
        return np.asarray(np.clip(image * np.float32(self.factor), 0, 1))


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """Written as a JPEG and read again; what has not three channels, each channel as a grey image.

    Attributes:
        quality: 1 to 95, as Pillow counts.
    """

    quality: int

    def __post_init__(self) -> None:
        _check("quality", self.quality, 0, 95)

    @property
    def name(self) -> str:
        """`JPEG 75`."""
        return f"JPEG {self.quality}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """To 8 bits, compressed, and back."""
        del number
        pixels = (image * 255).round().astype(np.uint8)
        if len(pixels) == _COLOURS:
            found = self._compressed(np.ascontiguousarray(pixels.transpose(1, 2, 0))).transpose(2, 0, 1)
        else:
            found = np.stack([self._compressed(channel) for channel in pixels])
        return as_floats(np.ascontiguousarray(found))

    def _compressed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3) after the compression."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """A rotation about the centre, bilinear; corners that come into view mirror the image.

    Attributes:
        degrees: Counter-clockwise.
    """

    degrees: float

    def __post_init__(self) -> None:
        _check("degrees", abs(self.degrees), 0, 360)

    @property
    def name(self) -> str:
        """`rotation 10`."""
        return f"rotation {self.degrees:g}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Rotates a larger, mirrored image and cuts out its middle."""
        del number
        _, height, width = image.shape
        # Half the diagonal less half the shorter side: no rotation looks further.
        margin = int(np.ceil((np.hypot(height, width) - min(height, width)) / 2)) + 1
        padded = np.pad(image, [(0, 0), (margin, margin), (margin, margin)], "symmetric")
        turned = [
            np.asarray(Image.fromarray(channel).rotate(self.degrees, Image.Resampling.BILINEAR)) for channel in padded
        ]
        inside = np.stack(turned)[:, margin : margin + height, margin : margin + width]
        return np.asarray(np.clip(inside, 0, 1), dtype=np.float32)


SHIFTS: Final[tuple[Shift, ...]] = (
    Noise(sigma=0.02),
    Noise(sigma=0.05),
    Blur(sigma=1.0),
    Brightness(factor=0.8),
    Brightness(factor=1.2),
    Jpeg(quality=75),
    Jpeg(quality=50),
    Rotation(degrees=10),
    Rotation(degrees=20),
)
"""Those of the tables."""

MILD: Final[tuple[Shift, ...]] = (
    Noise(sigma=0.05),
    Blur(sigma=1.0),
    Brightness(factor=0.8),
    Jpeg(quality=75),
    Rotation(degrees=10),
)
"""One of each kind: those that a threshold can be made to spare, see `detector.sparing`."""


def shift_evidence(
    detector: Detector, images: ImageSource | Selection, shifts: Sequence[Shift] = SHIFTS
) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
    """What a calibrated detector says of clean images after each change.

    Args:
        detector: Of a calibrated bundle.
        images: Clean images; of more than 1,000 so many are taken, evenly spaced.
        shifts: The changes.

    Returns:
        By the change's name: (n,) float64 scores, and (n,) bool, which images are flagged.

    Raises:
        InputError: The bundle is not calibrated, or the images do not fit.
    """
    found = {}
    for name, parts in changed_logits(detector, images, shifts):
        verdicts = Verdicts.concatenate([detector.judge(part) for part in parts])
        if verdicts.adversarial is None or verdicts.score is None:
            raise InputError("shifts: expected a calibrated bundle, found one without a threshold")
        found[name] = (verdicts.score, verdicts.adversarial)
    return found


def changed_logits(
    detector: Detector, images: ImageSource | Selection, shifts: Sequence[Shift]
) -> Iterator[tuple[str, list[NDArray[np.float32]]]]:
    """What the members answer to images after each change, one change after another.

    Args:
        detector: Runs the members.
        images: Clean images; of more than 1,000 so many are taken, evenly spaced.
        shifts: The changes.

    Yields:
        The change's name, and the logits in batches of (B, K, L), all images together.

    Raises:
        InputError: The images do not fit, or a member answers with NaN.
    """
    rows = np.unique(np.linspace(0, len(images) - 1, MOST).round().astype(np.int64))
    chosen = detector.bundle.input.check(images.take(rows))
    with tqdm(total=len(shifts) * len(rows), desc="changing", unit=" images", disable=None, leave=False) as bar:
        for shift in shifts:
            parts = []
            for start in range(0, len(rows), _BATCH):
                numbers = rows[start : start + _BATCH].tolist()
                plain = as_floats(chosen[start : start + _BATCH])
                changed = [shift.apply(image, number) for image, number in zip(plain, numbers, strict=True)]
                parts.append(check_logits(detector.logits(np.stack(changed))))
                bar.update(len(changed))
            yield shift.name, parts
