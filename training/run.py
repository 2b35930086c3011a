"""A run's folder: what was asked for, how far it got, and what it measured on the way.

    RUN/
      config.json      the settings; a run goes on only under the same
      checkpoint.pt    the state after the last whole epoch
      metrics.jsonl    one line for each epoch, to read while it trains
      curves.png       the same to look at, drawn at most every 20 seconds, and at the end
      tensorboard/     the same for TensorBoard, where that is installed
      lock             held by the process that trains

The checkpoint is the truth, and is replaced in one step; the rest are copies for readers, written
anew from it when a run goes on.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from detector.errors import InputError, RunError
from detector.files import new_folder, write_bytes
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.convergence import converged
from training.ensemble import Ensemble, build_ensemble

CONFIG: Final = "config.json"
CHECKPOINT: Final = "checkpoint.pt"
METRICS: Final = "metrics.jsonl"
CURVES: Final = "curves.png"
TENSORBOARD: Final = "tensorboard"
LOCK: Final = "lock"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run on disk.

    Attributes:
        path: Its folder.
        config: Its settings.
    """

    path: Path
    config: TrainConfig

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Reads a run's settings.

        Raises:
            RunError: Not a run's folder, or settings that cannot be read.
        """
        path = Path(path)
        try:
            return cls(path=path, config=TrainConfig.from_json((path / CONFIG).read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            what = "a file" if path.is_file() else f"a folder without {CONFIG}" if path.exists() else "nothing"
            raise RunError(f"{path}: expected a training run's folder, found {what}") from None
        except (InputError, UnicodeDecodeError) as error:
            raise RunError(f"{path / CONFIG}: {error}") from None

    @classmethod
    def start(cls, path: Path | str, config: TrainConfig) -> "Run":
        """Makes a run's folder, or opens it where it is there already, with the same settings.

        Raises:
            RunError: The folder is a run with other settings, or no run.
        """
        path = Path(path)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            with new_folder(path) as folder:
                (folder / CONFIG).write_text(config.to_json(), encoding="utf-8")
            return cls(path=path, config=config)
        run = cls.open(path)
        if run.config != config:
            differences = "; ".join(run.config.differences(config))
            raise RunError(
                f"{path}: expected the settings this run was started with ({differences}); "
                "give those, or another folder"
            )
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for one process; the system lets go of it when the process ends, however it ends.

        Raises:
            RunError: Another process holds it.
        """
        with (self.path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path}: expected a run nobody trains, found another process at it") from None
            for part in self.path.glob(".*.part"):  # what a killed process was writing
                part.unlink()
            yield

    def checkpoint(self) -> Checkpoint | None:
        """The state after the last whole epoch; None before the first.

        Raises:
            RunError: It is damaged, or another run's.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        checkpoint = Checkpoint.load(path)
        if TrainConfig.from_values(checkpoint.config) != self.config:
            raise RunError(f"{path}: expected this run's checkpoint, found one made with other settings")
        return checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the checkpoint, then adds its last epoch to `metrics.jsonl`.

        Raises:
            RunError: The disk is full, or cannot be written to; the checkpoint before is still there.
        """
        path = self.path / CHECKPOINT
        try:
            checkpoint.save(path)
        except (OSError, RuntimeError) as error:  # torch wraps what the system says
            raise RunError(
                f"{path}: expected to write epoch {checkpoint.epoch}, found no room or no right to "
                f"({' '.join(str(error).split())[:120]}); the checkpoint of epoch {checkpoint.epoch - 1} is kept, and "
                "the same command goes on from there"
            ) from error
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(_line(checkpoint.metrics[-1]))

    def rewrite_metrics(self, metrics: Sequence[Mapping[str, Any]]) -> None:
        """Makes `metrics.jsonl` agree with the checkpoint, whatever a killed process left."""
        write_bytes(self.path / METRICS, "".join(map(_line, metrics)).encode())

    def trained(self) -> tuple[Ensemble, Checkpoint]:
        """The trained ensemble in evaluation mode, and the checkpoint it comes from.

        Raises:
            RunError: The run is not finished, or its checkpoint is damaged or of another architecture.
        """
        checkpoint = self.checkpoint()
        done = 0 if checkpoint is None else checkpoint.epoch
        if checkpoint is None or not finished(self.config, checkpoint.metrics):
            raise RunError(
                f"{self.path}: expected a finished run, found {done} of {self.config.epochs} epochs; "
                "the 'ledgate train' command it was started with goes on from there"
            )
        channels, height, width = checkpoint.image_shape
        blank = torch.zeros((channels, height, width) if self.config.normalise == "pixel" else (channels, 1, 1))
        ensemble = build_ensemble(
            self.config.arch,
            members=self.config.members,
            image_shape=checkpoint.image_shape,
            classes=len(checkpoint.class_names),
            mean=blank,
            std=blank,
            seed=self.config.seed,
        )
        checkpoint.restore_kept(ensemble)
        return ensemble.eval(), checkpoint


def finished(config: TrainConfig, metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is nothing left to train: the epochs are done, or every member has converged."""
    return len(metrics) >= config.epochs or len(converged(metrics, config)) == config.members


def _line(metrics: Mapping[str, Any]) -> str:
    """One epoch as a line of JSON, which has no number for infinity."""
    plain = {name: "-Infinity" if value == -torch.inf else value for name, value in metrics.items()}
    return json.dumps(plain, allow_nan=False) + "\n"
