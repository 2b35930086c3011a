"""How a training goes, for people: two lines at the foot of a terminal, or else a line in the log for each epoch.

    epoch 3/40   6%|███        | 2190 images/s, loss 1.273: ECE 3.376, H 1.289, log ED -0.950, 00:26 left
    epoch 2: val 0.788, median log diversity -2.108, members 0.751 0.697 0.779

By the paper's letters, the loss is the ensemble's cross-entropy (ECE, Eq. 2) less alpha times the entropy H and beta
times the log diversity log ED (Eq. 5). What has no weight is not shown, and none of it below 100 columns.

In a file or a pipe, a bar is noise: there, each epoch's line goes to the logger `training`, which is silent
unless someone listens, as `ledgate train` does.
"""

import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from tqdm import tqdm

LOGGER: Final = logging.getLogger("training")
_BAR: Final = "{desc} {percentage:3.0f}%|{bar}| {rate_noinv_fmt}{postfix}, {remaining} left"
# Of the newest rate in the one shown: little, so that a busy second does not move the time left.
_SMOOTHING: Final = 0.05
# Parts of the loss, in the order of `training.adp.terms`, and how wide a terminal has room for them and for a bar.
_PARTS: Final = ("ECE", "H", "log ED")
_WIDE: Final = 100
# Enough for two lines: in a terminal that does not tell its height, there would be room for none.
_ROWS: Final = 20


class Progress:
    """What is shown while a run trains.

    Args:
        epochs: How many the run has.
        images: Images in an epoch.
        batch_size: Images in a step.
        metrics: Of the epochs that are done.
        shown: Whether to show anything on standard error, if that is a terminal.
        logged: Whether to log each epoch where nothing is shown.
    """

    def __init__(
        self,
        *,
        epochs: int,
        images: int,
        batch_size: int,
        metrics: Sequence[Mapping[str, Any]],
        shown: bool,
        logged: bool,
    ) -> None:
        self._epochs = epochs
        self._batch_size = batch_size
        self._bar = tqdm(
            total=epochs * images,
            initial=len(metrics) * images,
            unit=" images",
            bar_format=_BAR,
            smoothing=_SMOOTHING,
            nrows=_ROWS,
            delay=0.1,  # it has its first words by then
            leave=False,
            disable=None if shown else True,
        )
        self._last = tqdm(bar_format="{desc}", nrows=_ROWS, position=1, leave=False, disable=self._bar.disable)
        self._logged = logged and self._bar.disable
        self._wide = False
        self._begin(len(metrics) + 1)
        if metrics:
            self._tell(metrics[-1])

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last.close()
        self._bar.close()

    def step(self, means: Sequence[float] | None) -> None:
        """One step is done.

        Args:
            means: Of the epoch so far, since those of one step jump: the loss and its parts; None where they were not
                looked at.
        """
        if means is not None and not self._bar.disable:
            self._bar.set_postfix_str(losses(means, parts=self._wide), refresh=False)
        self._bar.update(self._batch_size)

    def epoch(self, measured: Mapping[str, Any]) -> None:
        """An epoch is done."""
        self._tell(measured)
        if self._logged:
            LOGGER.info("%s, loss %.3f, %.1f s", line(measured, self._epochs), measured["loss"], measured["seconds"])
        self._begin(measured["epoch"] + 1)

    def _begin(self, epoch: int) -> None:
        """The bar of an epoch."""
        if not self._bar.disable:
            self._bar.ncols = columns = _columns()
            self._wide = columns >= _WIDE
        self._bar.set_description_str(f"epoch {min(epoch, self._epochs)}/{self._epochs}", refresh=False)

    def _tell(self, measured: Mapping[str, Any]) -> None:
        """What was measured last, cut to the terminal: a line that breaks would scroll away at each step."""
        if self._last.disable:
            return
        text, columns = line(measured), _columns()
        self._last.set_description_str(text if len(text) < columns else f"{text[: columns - 2]}\u2026")


def losses(means: Sequence[float], *, parts: bool) -> str:
    """The loss, with its parts where there is room; one that has no weight is 0 and is left out."""
    loss, *each = means
    shown = [f"{name} {value:.3f}" for name, value in zip(_PARTS, each, strict=True) if value]
    return f"loss {loss:.3f}{': ' + ', '.join(shown) if parts and len(shown) > 1 else ''}"


def line(measured: Mapping[str, Any], epochs: int | None = None) -> str:
    """What was measured on the validation images, the ensemble before its members."""
    diversity = measured["median_log_diversity"]
    return (
        f"epoch {measured['epoch']}{f'/{epochs}' if epochs else ''}: val {measured['accuracy']:.3f}, "
        f"median log diversity {diversity:.{3 if math.isfinite(diversity) else 0}f}, "
        f"members {' '.join(f'{value:.3f}' for value in measured['member_accuracy'])}"
    )


def _columns() -> int:
    """The terminal's width; it may have been changed since the last epoch."""
    return os.get_terminal_size(sys.stderr.fileno()).columns or 80
