"""Architectures by name: what a member can be.

A network takes normalised images and returns logits. A name is one of `ARCHITECTURES`, a classifier of
`torchvision.models` (`resnet18`, `mobilenet_v3_small`, ...), or the import path of your own,
`package.module:Name`: whatever is called with `image_shape` and `classes` and returns a torch module.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import torch
import torchvision
from torch import Tensor, nn

from detector.errors import InputError, SettingError
from training.resnet import ResNet

# The smallest height and width that our own networks halve and still see a plane of.
MIN_SIZE: Final = 8


class SmallCNN(nn.Module):
    """Four convolutions, then the mean over the image: (N, C, H, W) float32 to (N, L) logits.

    Enough for grey digits and quick on a CPU. On `digits` the mean over the image, rather than a layer
    that sees each place for itself, made the score tell attacks from honest images better, and made it
    depend less on the seed.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(image_shape[0], width),
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


Network = Callable[[tuple[int, int, int], int], nn.Module]

ARCHITECTURES: Final[Mapping[str, Network]] = MappingProxyType(
    {"cnn": SmallCNN} | {f"resnet{depth}": partial(ResNet, depth=depth) for depth in (20, 32, 56, 110)}
)


def build(name: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Returns a fresh network, initialised from torch's random state.

    Args:
        name: One of `ARCHITECTURES`, a classifier of `torchvision.models`, or `package.module:Name`.
        image_shape: C, H, W.
        classes: L.

    Raises:
        InputError: No architecture of that name, one that cannot be imported or built, or images it
            cannot take.
    """
    if name in ARCHITECTURES:
        _, height, width = image_shape
        if min(height, width) < MIN_SIZE:
            raise InputError(
                f"images: expected at least {MIN_SIZE} x {MIN_SIZE} for {name!r}, found {height} x {width}"
            )
        return ARCHITECTURES[name](image_shape, classes)
    network = _imported(name, image_shape, classes) if ":" in name else _of_torchvision(name, image_shape, classes)
    check_answers(name, network, image_shape, classes)
    return network


def check_answers(name: str, network: nn.Module, image_shape: tuple[int, int, int], classes: int) -> None:
    """Refuses a network that cannot take images of that shape, or answers with anything but their logits.

    Args:
        name: How the message calls it.
        network: (N, C, H, W) float32 to (N, L); left in the mode it is in.
        image_shape: C, H, W.
        classes: L.

    Raises:
        InputError: It fails, or returns something else.
    """
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            found = network.eval()(torch.zeros(2, *image_shape))
    except Exception as error:  # somebody else's code raises almost anything
        raise InputError(f"arch: expected {name!r} to take images of {image_shape}, found {_told(error)}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != (2, classes):
        raise InputError(f"arch: expected {name!r} to return (2, {classes}) logits for 2 images, found {shape}")


def check_name(name: str) -> None:
    """Refuses what cannot be an architecture's name; a network of one's own is imported only when it is built.

    Raises:
        InputError: Neither ours, nor torchvision's, nor an import path.
    """
    if name not in ARCHITECTURES and ":" not in name and name not in _classifiers():
        raise SettingError(
            f"arch: expected one of {', '.join(sorted(ARCHITECTURES))}, a classifier of torchvision.models such as "
            f"resnet18, or an import path such as package.module:Name, found {name!r}"
        )


def _classifiers() -> list[str]:
    """The names of torchvision's image classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


def _of_torchvision(name: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """One of torchvision's, untrained."""
    check_name(name)
    if image_shape[0] != 3:
        raise InputError(f"arch: expected images of 3 channels for torchvision's {name}, found {image_shape[0]}")
    # The two that also answer from inside, while they train: an ensemble has one answer for each member.
    options: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if options:
        options["init_weights"] = True
    if name.startswith("vit_"):
        options["image_size"] = image_shape[1]
    try:
        return cast("nn.Module", torchvision.models.get_model(name, weights=None, num_classes=classes, **options))
    except Exception as error:  # somebody else's code raises almost anything
        raise InputError(f"arch: expected {name!r} to take images of {image_shape}, found {_told(error)}") from error


def _imported(name: str, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The user's own; a module in the working directory is found, as with `python -m`."""
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        network = getattr(importlib.import_module(module), attribute)(image_shape, classes)
    except Exception as error:  # somebody else's code raises almost anything
        raise InputError(
            f"arch: expected {name!r} to be importable and to be called with (C, H, W) and the number of classes, "
            f"found {_told(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"arch: expected {name!r} to return a torch.nn.Module, found {type(network).__name__}")
    return network


def _told(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
