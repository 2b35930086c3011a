"""Attacked images of a run, with what is known about each: `ledgate attack` from Python."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.prediction import Ints, check_labels, mean_prediction
from training.attacks import LinfAttack, climb
from training.ensemble import Ensemble
from training.execution import THREADS, reproducible
from training.run import Run
from training.trainer import predict

BATCH_SIZE = 256


def attack(
    run: Run | Path | str,
    images: ImageSet,
    settings: LinfAttack,
    *,
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
    threads: int = THREADS,
) -> ImageSet:
    """Attacks images, white box, against the whole ensemble of a finished run.

    Args:
        run: The run, or its folder.
        images: What to start from, with true labels. Their own `clean` and `success` are of an
            earlier attack, and are not looked at.
        settings: The attack.
        batch_size: Images at a time.
        progress: Whether to show a bar on standard error, if that is a terminal.
        threads: CPU threads, at least 1; see `training.execution`.

    Returns:
        As many images, float32, in the same order, with `clean`, `labels`, `source_index`,
        `clean_correct`, `success` (right before and wrong after) and `info["attack"]`. Attacks with
        a fixed budget return their last iterate whether or not it succeeded.

    Raises:
        RunError: Not a finished run.
        InputError: No labels, or images or labels that do not fit the run.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, found {batch_size}")
    ensemble, checkpoint = run.trained()
    labels = _labels(images, checkpoint.image_shape, len(checkpoint.class_names))
    rows = np.arange(len(images)) if images.source_index is None else images.source_index
    clean = as_floats(images.images)

    ensemble.requires_grad_(requires_grad=False)
    with reproducible(threads):
        parts = _climb(ensemble, settings, clean, labels, rows, batch_size=batch_size, progress=progress)
        attacked = ImageSet(images=parts)
        correct = _classes(ensemble, ImageSet(images=clean), batch_size) == labels
        wrong = _classes(ensemble, attacked, batch_size) != labels
    return ImageSet(
        images=attacked.images,
        labels=labels,
        source_index=images.source_index,
        clean=clean,
        clean_correct=correct,
        success=correct & wrong,
        info={**images.info, "attack": describe(settings)},
    )


def describe(settings: LinfAttack) -> dict[str, object]:
    """An attack's settings as JSON, defaults filled in."""
    return {"name": settings.name, "method": settings.method, **asdict(settings), "step_size": settings.stride}


def _climb(
    ensemble: Ensemble,
    settings: LinfAttack,
    clean: NDArray[np.float32],
    labels: Ints,
    rows: Ints,
    *,
    batch_size: int,
    progress: bool,
) -> NDArray[np.float32]:
    """The attack, batch by batch."""
    parts = []
    with tqdm(total=len(clean), unit="image", disable=None if progress else True) as bar:
        for start in range(0, len(clean), batch_size):
            batch = slice(start, start + batch_size)
            x, y = torch.from_numpy(clean[batch]), torch.from_numpy(labels[batch])
            parts.append(climb(ensemble, x, y, rows[batch], settings).numpy())
            bar.update(len(x))
    return np.concatenate(parts)


def _labels(images: ImageSet, shape: tuple[int, int, int], classes: int) -> Ints:
    """The true labels, once they and the images fit the run."""
    if images.images.shape[1:] != shape:
        raise InputError(f"images: expected shape (N, {', '.join(map(str, shape))}), found {images.images.shape}")
    if images.labels is None:
        raise InputError("labels: expected the true label of each image, found none")
    if images.source_index is not None and (images.source_index < 0).any():
        raise InputError(f"source_index: expected rows of a data set, found {images.source_index.min()}")
    return check_labels(images.labels, len(images), classes)


def _classes(ensemble: torch.nn.Module, images: ImageSet, batch_size: int) -> Ints:
    """The ensemble's class of each image."""
    logits = predict(ensemble, images, batch_size=batch_size)
    return np.asarray(mean_prediction(logits).argmax(axis=1))
