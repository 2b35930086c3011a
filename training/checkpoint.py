"""A training run's state in one file, from which it goes on exactly or is exported.

torch notices a truncated file but not a flipped bit in a weight, so the state carries a digest of its
own. Read with `weights_only`: a checkpoint holds tensors and plain values, and no code.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch

from detector.errors import RunError, one_line
from detector.files import replacing
from training.optimiser import restore_optimiser

_AGAIN: Final = "train again into a new folder"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after an epoch.

    Attributes:
        config: The run's settings, so that a checkpoint put into another run's folder is noticed.
        image_shape: C, H, W.
        class_names: L of them.
        epoch: How many epochs are done.
        ensemble: The ensemble's state.
        optimiser: The optimiser's state.
        kept: The ensemble's state after the epoch that is the result so far.
        kept_epoch: That epoch's number, from 1.
        metrics: One object for each epoch, as in `metrics.jsonl`.
        listing: Of the data set, see `training.datasets.Dataset`.
    """

    config: dict[str, Any]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    epoch: int
    ensemble: dict[str, Any]
    optimiser: dict[str, Any]
    kept: dict[str, Any]
    kept_epoch: int
    metrics: list[dict[str, Any]]
    listing: str | None = None

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        with replacing(path) as part:
            torch.save({**state, "digest": digest(state)}, part)

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Reads a file.

        Raises:
            RunError: Not a checkpoint, or a damaged one.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            intact = state.pop("digest") == digest(state)
            checkpoint = cls(**state)
        except Exception as error:  # noqa: BLE001  a damaged file makes torch raise almost anything
            reason = one_line(error).partition(". ")[0][:120]
            raise RunError(
                f"{path}: expected a checkpoint, found a damaged file or none of ours ({reason}); {_AGAIN}"
            ) from None
        if not intact:
            raise RunError(
                f"{path}: expected content that matches its digest, found other; the file is damaged; {_AGAIN}"
            )
        return checkpoint

    def restore(self, ensemble: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Puts the state into modules that were built from the same settings, to go on from.

        Raises:
            RunError: They are of another architecture.
        """
        self._load(ensemble, self.ensemble)
        try:
            restore_optimiser(optimiser, self.optimiser)
        except (RuntimeError, ValueError) as error:
            raise self._other(error) from None

    def check_listing(self, listing: str | None) -> None:
        """Refuses a folder of images that has changed: its rows, and so its parts, no longer mean the same images.

        Raises:
            RunError: Another listing than that trained on.
        """
        if listing != self.listing:
            raise RunError(
                "data-root: expected the files that this run was trained on, found others, or other pictures in them; "
                "images of its test part may have come into another; put the files back, or train into a new folder"
            )

    def restore_kept(self, ensemble: torch.nn.Module) -> None:
        """Puts the result into an ensemble that was built from the same settings.

        Raises:
            RunError: It is of another architecture.
        """
        self._load(ensemble, self.kept)

    def _load(self, ensemble: torch.nn.Module, state: dict[str, Any]) -> None:
        """One state."""
        try:
            ensemble.load_state_dict(state)
        except (RuntimeError, ValueError) as error:
            raise self._other(error) from None

    def _other(self, error: Exception) -> RunError:
        """What does not fit."""
        return RunError(
            f"checkpoint: expected weights of '{self.config['arch']}' as this version of ledgate builds it, "
            f"found others ({' '.join(str(error).split())[:120]}); {_AGAIN}"
        )


def digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of nested tensors and plain values."""
    sha = hashlib.sha256()
    _feed(sha, state)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    """One value, with what tells it from a neighbour of the same bytes."""
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        sha.update(f"tensor {array.dtype} {tuple(array.shape)}:".encode())
        sha.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        sha.update(f"mapping {len(value)}:".encode())
        for key, item in value.items():
            _feed(sha, key)
            _feed(sha, item)
    elif isinstance(value, (list, tuple)):
        sha.update(f"sequence {len(value)}:".encode())
        for item in value:
            _feed(sha, item)
    else:
        sha.update(f"{type(value).__name__} {value!r};".encode())
