"""A finished run as something to ask, for attacks that need no gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.document import sha256
from detector.imageset import ImageSet
from detector.oracle import Oracle
from detector.prediction import Floats, mean_prediction
from training.execution import THREADS, reproducible
from training.run import CHECKPOINT, Run
from training.trainer import predict
from training.victim import Victim


@contextmanager
def asking(
    run: Run | Path | str, *, device: str = "cpu", threads: int = THREADS, budget: int | None = None
) -> Iterator[Oracle]:
    """Yields a finished run's ensemble, to be asked as long as the context lasts.

    Args:
        run: The run, or its folder.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        threads: CPU threads, at least 1; see `training.execution`.
        budget: Most queries, for all images together; None for no end of them.

    Raises:
        RunError: Not a finished run.
        InputError: No such device, or a number out of its range.
    """
    victim = Victim.open(run, device=device)

    def ask(images: NDArray[np.float32]) -> Floats:
        return mean_prediction(predict(victim.ensemble, ImageSet(images=images), batch_size=len(images)))

    with reproducible(threads, victim.device):
        yield Oracle(
            ask=ask,
            shape=victim.checkpoint.image_shape,
            classes=len(victim.checkpoint.class_names),
            known_as=known_as(victim.run),
            budget=budget,
        )


def known_as(run: Run) -> dict[str, str]:
    """What a run is, as JSON: the digest of its checkpoint."""
    return {"run": sha256((run.path / CHECKPOINT).read_bytes())}
