"""Training from start to end, or from where a killed process left off.

On a CPU a run's weights follow from its settings: the same machine and number of threads give the same
bits, however often the process was killed and started again in between.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector.prediction import check_member_count
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.datasets import load
from training.execution import THREADS, reproducible
from training.run import Run
from training.trainer import Trainer


def train(config: TrainConfig, out: Path | str, *, progress: bool = True, threads: int = THREADS) -> Run:
    """Trains an ensemble into a folder; goes on where the same training stopped before.

    Args:
        config: The settings.
        out: The run's folder: a new one, or one that was started with the same settings. On a
            finished one there is nothing left to do.
        progress: Whether to show a bar on standard error, if that is a terminal.
        threads: CPU threads, at least 1; see `training.execution`.

    Returns:
        The finished run.

    Raises:
        InputError: More members than the classes of the data set allow, or images too small for the
            architecture.
        RunError: The folder holds something else or is being trained in, its checkpoint is damaged,
            or the loss is no longer a number; the last good checkpoint is kept.
    """
    dataset = load(config.dataset)
    check_member_count(config.members, len(dataset.class_names))
    trainer = Trainer(config, dataset)
    run = Run.start(out, config)
    with run.locked(), reproducible(threads):
        metrics = _resume(run, trainer)
        done = len(metrics)
        steps = trainer.steps
        with tqdm(
            total=config.epochs * steps, initial=done * steps, unit="step", disable=None if progress else True
        ) as bar:
            for epoch in range(done, config.epochs):
                measured = trainer.epoch(epoch, lambda loss: _show(bar, metrics, loss))
                metrics.append(measured)
                run.save(
                    Checkpoint(
                        config=asdict(config),
                        image_shape=dataset.image_shape,
                        class_names=dataset.class_names,
                        epoch=epoch + 1,
                        ensemble=trainer.ensemble.state_dict(),
                        optimiser=trainer.optimiser.state_dict(),
                        metrics=metrics,
                    )
                )
    return run


def _resume(run: Run, trainer: Trainer) -> list[dict[str, Any]]:
    """Puts the trainer where the checkpoint left off; returns the metrics of the epochs done."""
    checkpoint = run.checkpoint()
    metrics = [] if checkpoint is None else list(checkpoint.metrics)
    if checkpoint is not None:
        checkpoint.restore(trainer.ensemble, trainer.optimiser)
    run.rewrite_metrics(metrics)
    return metrics


def _show(bar: "tqdm[Any]", metrics: list[dict[str, Any]], loss: float) -> None:
    """Moves the bar by one step."""
    bar.update()
    text = {"epoch": len(metrics) + 1, "loss": f"{loss:.3f}"}
    if metrics:
        last = metrics[-1]
        text["val"] = f"{last['accuracy']:.3f}"
        text["members"] = "/".join(f"{value:.3f}" for value in last["member_accuracy"])
        text["diversity"] = f"{last['median_log_diversity']:.4f}"
    bar.set_postfix(text, refresh=False)
