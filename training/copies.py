"""What a run's folder has to look at beside its numbers: curves, and scalars for TensorBoard.

None of it is read back: all of it is made from what the checkpoint has.
"""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from training.run import CHECKPOINT, CURVES, TENSORBOARD, Run
from training.tensorboard import TensorBoard

# Between two pictures: drawing takes half a second, which short epochs would feel.
_PAUSE_S: Final = 20.0


class Copies:
    """Kept up to date while a run trains, in the process that leads.

    Args:
        run: What trains.
        metrics: Of the epochs that are done; grows with those that follow.
    """

    def __init__(self, run: Run, metrics: Sequence[Mapping[str, Any]]) -> None:
        self._run = run
        self._metrics = metrics
        self._drawn = time.monotonic()
        run.rewrite_metrics(metrics)
        self._board = TensorBoard(run.path / TENSORBOARD, metrics)

    def __enter__(self) -> "Copies":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()
        if error is None and self._metrics and self._outdated():
            self._draw()

    def epoch(self) -> None:
        """An epoch is done, and its checkpoint written."""
        self._board.epoch(self._metrics[-1])
        if time.monotonic() >= self._drawn + _PAUSE_S:
            self._draw()

    def _outdated(self) -> bool:
        """Whether there is no picture of the last checkpoint."""
        picture = self._run.path / CURVES
        return not picture.exists() or picture.stat().st_mtime_ns < (self._run.path / CHECKPOINT).stat().st_mtime_ns

    def _draw(self) -> None:
        """The curves so far."""
        from training.curves import write_curves  # matplotlib takes a second to import

        write_curves(self._run.path / CURVES, self._metrics, self._run.config)
        self._drawn = time.monotonic()
