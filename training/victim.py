"""What is attacked: the networks of a finished run, all of them or one, on a device."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from detector.document import sha256
from detector.errors import InputError
from detector.imageset import ImageSet
from detector.prediction import Ints
from training.checkpoint import Checkpoint
from training.ensemble import Ensemble
from training.execution import find_device
from training.folding import folded
from training.run import CHECKPOINT, Run


class Alone(nn.Module):
    """One member as an ensemble of its own: (N, C, H, W) to (N, 1, L) logits."""

    def __init__(self, member: nn.Module) -> None:
        super().__init__()
        self.member = member

    def forward(self, images: Tensor) -> Tensor:
        """The member's logits."""
        logits: Tensor = self.member(images)
        return logits.unsqueeze(1)


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A finished run's networks, without gradients of their weights.

    Attributes:
        run: Where they come from.
        checkpoint: The same, with what is known about classes and images.
        ensemble: (N, C, H, W) to (N, K, L) logits, in evaluation mode.
        device: Where it lies.
    """

    run: Run
    checkpoint: Checkpoint
    ensemble: Ensemble
    device: torch.device

    @classmethod
    def open(cls, run: Run | Path | str, *, device: str = "cpu") -> "Victim":
        """Opens a run's networks.

        Args:
            run: The run, or its folder.
            device: `cpu`, `cuda`, `cuda:1`, or `auto`.

        Raises:
            RunError: Not a finished run.
            InputError: No such device.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        place = find_device(device)
        ensemble, checkpoint = run.trained()
        ensemble.to(place).requires_grad_(requires_grad=False)
        return cls(run=run, checkpoint=checkpoint, ensemble=ensemble, device=place)

    @property
    def digest(self) -> str:
        """The SHA-256 of the run's checkpoint."""
        return sha256((self.run.path / CHECKPOINT).read_bytes())

    @cached_property
    def folded(self) -> Ensemble:
        """The same, sooner and up to rounding: to follow gradients through, never to judge by; see `folding`."""
        return folded(self.ensemble, self.checkpoint.image_shape)

    def member(self, index: int | None) -> nn.Module:
        """One member alone, from 0; all of them for None.

        Raises:
            InputError: No such member.
        """
        return _one(self.ensemble, index)

    def folded_member(self, index: int | None) -> nn.Module:
        """The same of the folded networks.

        Raises:
            InputError: No such member.
        """
        return _one(self.folded, index)

    def labels_of(self, images: ImageSet) -> Ints:
        """The true labels of images, once they and the images fit; see `ImageSet.true_labels`."""
        return images.true_labels(self.checkpoint.image_shape, len(self.checkpoint.class_names))


def _one(ensemble: Ensemble, index: int | None) -> nn.Module:
    """One member alone, or all of them."""
    if index is None:
        return ensemble
    count = len(ensemble.members)
    if not 0 <= index < count:
        raise InputError(f"member: expected 0 to {count - 1}, found {index}")
    return Alone(ensemble.members[index])
