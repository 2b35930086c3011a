"""A run's metrics for TensorBoard, where that is installed; nothing otherwise.

Like `metrics.jsonl`, a copy of what the checkpoint has: written anew when a run goes on, so that no epoch
stands there twice, whenever the process before was killed.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

# What TensorBoard's own files are called.
_FILES: Final = "events.out.tfevents.*"


class TensorBoard:
    """Scalars of each epoch.

    Args:
        folder: Made where TensorBoard is installed.
        metrics: Of the epochs that are done.
    """

    def __init__(self, folder: Path, metrics: Iterable[Mapping[str, Any]]) -> None:
        self._writer: Any = None
        if importlib.util.find_spec("tensorboard") is None:
            return
        from torch.utils.tensorboard import SummaryWriter

        for file in folder.glob(_FILES):
            file.unlink()
        # A TensorBoard that is looking on forgets what it has read of these epochs.
        self._writer = SummaryWriter(str(folder), purge_step=1)
        for measured in metrics:
            self._add(measured)
        self._writer.flush()

    def epoch(self, measured: Mapping[str, Any]) -> None:
        """An epoch is done."""
        if self._writer is not None:
            self._add(measured)
            self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, measured: Mapping[str, Any]) -> None:
        """The numbers of one epoch."""
        for name, value in scalars(measured):
            self._writer.add_scalar(name, value, measured["epoch"])


def scalars(measured: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """An epoch's numbers by name; a list has one for each member."""
    for name, value in measured.items():
        if name in ("epoch", "frozen", "machine"):
            continue
        if isinstance(value, list):
            yield from ((f"{name}/{k}", each) for k, each in enumerate(value))
        else:
            yield name, value
