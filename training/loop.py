"""Training from start to end, or from where a killed process left off.

On a CPU a run's weights follow from its settings: the same machine and number of threads give the same
bits, however often the process was killed and started again in between.
"""

import contextlib
import copy
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.prediction import check_member_count
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.convergence import kept_epoch
from training.copies import Copies
from training.datasets import Dataset, load
from training.execution import THREADS, find_device, reproducible
from training.parallel import Group, joined
from training.progress import Progress
from training.run import Run, finished
from training.trainer import Trainer


class UnevenClasses(UserWarning):
    """K does not divide L - 1 (Section 4.6)."""


def train(
    config: TrainConfig,
    out: Path | str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    device: str = "auto",
    progress: bool = True,
    threads: int = THREADS,
) -> Run:
    """Trains an ensemble into a folder; goes on where the same training stopped before.

    Under `torchrun`, its processes share every batch; all of them return the same run.

    Args:
        config: The settings.
        out: The run's folder: a new one, or one that was started with the same settings. On a
            finished one there is nothing left to do.
        root: Where the data set lies, see `training.datasets.load`.
        download: Whether to fetch it there first, where it is missing.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`: a CUDA device where there is one.
        progress: Whether to show a bar on standard error, if that is a terminal; elsewhere each epoch is a line
            in the log, see `training.progress`.
        threads: CPU threads, at least 1; see `training.execution`.

    Returns:
        The finished run.

    Warns:
        UnevenClasses: K does not divide L - 1, so the optimum of Corollary 1 holds approximately.

    Raises:
        InputError: More members than the classes of the data set allow, images that do not fit the
            architecture, or no data where it was looked for.
        RunError: The folder holds something else or is being trained in, its checkpoint is damaged, memory
            ran out, or the loss is no longer a number; the last good checkpoint is kept.
    """
    where = find_device(device)
    with joined(where) as group, reproducible(threads, where):
        if download and group.leads:
            load(config.dataset, root=root, download=True, image_size=config.image_size)
        group.told(None)  # nobody looks for data before it is there
        dataset = load(config.dataset, root=root, image_size=config.image_size)
        check_member_count(config.members, len(dataset.class_names))
        trainer = Trainer(config, dataset, device=where, group=group)
        run = group.told(Run.start(out, config) if group.leads else None)
        assert run is not None
        with run.locked() if group.leads else contextlib.nullcontext():
            _train(run, trainer, dataset, group, progress=progress)
    return run


def _train(run: Run, trainer: Trainer, dataset: Dataset, group: Group, *, progress: bool) -> None:
    """All epochs that are left, a checkpoint after each."""
    config = run.config
    checkpoint = run.checkpoint()
    metrics = [] if checkpoint is None else list(checkpoint.metrics)
    kept: dict[str, Any] = {} if checkpoint is None else checkpoint.kept
    if checkpoint is not None:
        checkpoint.check_listing(dataset.listing)
        checkpoint.restore(trainer.ensemble, trainer.optimiser)
    if group.leads and not finished(config, metrics):
        _warn_uneven(config.members, len(dataset.class_names))
    with (
        Progress(epochs=config.epochs, images=trainer.steps * config.batch_size, batch_size=config.batch_size,
                 metrics=metrics, shown=progress and group.leads, logged=group.leads) as bar,
        Copies(run, metrics) if group.leads else contextlib.nullcontext() as copies,
    ):  # fmt: skip
        while not finished(config, metrics):
            measured = group.told(trainer.epoch(metrics, bar.step))
            assert measured is not None
            metrics.append(measured)
            if copies is None:
                continue
            if kept_epoch(metrics, config) == len(metrics):
                kept = copy.deepcopy(trainer.ensemble.state_dict())
            run.save(
                Checkpoint(
                    config=asdict(config),
                    image_shape=dataset.image_shape,
                    class_names=dataset.class_names,
                    epoch=len(metrics),
                    ensemble=trainer.ensemble.state_dict(),
                    optimiser=trainer.optimiser.state_dict(),
                    kept=kept,
                    kept_epoch=kept_epoch(metrics, config),
                    metrics=metrics,
                    listing=dataset.listing,
                )
            )
            copies.epoch()
            bar.epoch(measured)
    group.told(None)  # nobody leaves before the last checkpoint is written


def _warn_uneven(members: int, classes: int) -> None:
    """Says what Section 4.6 looks at, and goes on."""
    if (classes - 1) % members:
        warnings.warn(
            f"members: {members} does not divide {classes} - 1 classes, so the other classes cannot be shared out "
            "evenly (Corollary 1); ADP works all the same (Section 4.6), with somewhat less diversity",
            UnevenClasses,
            stacklevel=4,  # whoever called `train`
        )
