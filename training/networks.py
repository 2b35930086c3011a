"""Architectures by name: what a member can be.

A network takes normalised images and returns logits. A new one is a function or class that is called
with `image_shape` and `classes`, and one line in `ARCHITECTURES`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, cast

from torch import Tensor, nn

from detector.errors import InputError

# The smallest height and width that `SmallCNN` halves and still sees a plane of.
MIN_SIZE: Final = 8


class SmallCNN(nn.Module):
    """Four convolutions, then the mean over the image: (N, C, H, W) float32 to (N, L) logits.

    Enough for grey digits and quick on a CPU. On `digits` the mean over the image, rather than a layer
    that sees each place for itself, made the score tell attacks from honest images better, and made it
    depend less on the seed.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> None:
        super().__init__()
        channels, *size = image_shape
        if min(size) < MIN_SIZE:
            raise InputError(
                f"images: expected at least {MIN_SIZE} x {MIN_SIZE} for 'cnn', found {size[0]} x {size[1]}"
            )
        self.features = nn.Sequential(
            *_convolution(channels, width),
            *_convolution(width, width),
            nn.AvgPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return cast("Tensor", self.head(self.features(images).mean(dim=(2, 3))))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """3 x 3, with batch normalisation, which has the bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


ARCHITECTURES: Final[Mapping[str, Callable[[tuple[int, int, int], int], nn.Module]]] = MappingProxyType(
    {"cnn": SmallCNN}
)


def build(name: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Returns a fresh network, initialised from torch's random state.

    Args:
        name: As in `ARCHITECTURES`.
        image_shape: C, H, W.
        classes: L.

    Raises:
        InputError: No architecture of that name, or images too small for it.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"arch: expected one of {', '.join(sorted(ARCHITECTURES))}, found {name!r}")
    return ARCHITECTURES[name](image_shape, classes)
