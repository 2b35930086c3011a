"""What one finished run does on the test images."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch

from detector.diversity import log_diversity
from detector.document import Record
from detector.errors import RunError
from detector.prediction import Floats, mean_prediction
from detector.rates import Rate
from training.adp import js_divergence
from training.datasets import Dataset
from training.evaluation.setting import Setting
from training.execution import THREADS, find_device, reproducible
from training.run import Run
from training.splits import SPLITS, split_rows, take
from training.trainer import predict

_BATCH: Final = 512
_QUANTILES: Final = (0.01, 0.05, 0.25, 0.75, 0.95, 0.99)


class Result(Record):
    """A run's figures, as they are written to `table1.json`.

    Attributes:
        run: The name of its folder.
        config: All of its settings.
        images: How many images are in each part of the data set.
        member_errors: Of Net 1 to Net K, shares of the test images, each with its exact interval.
        ensemble_error: Of the averaged prediction, the same.
        median_log_diversity: Over the test images, the label left out being the ensemble's own
            prediction, as it is served.
        log_diversity_quantiles: The same at other shares than a half; each is a value that occurs.
        confidence: The mean of the averaged prediction's largest entry.
        js_divergence: The mean of Eq. (9), natural log.
        epochs: How many were trained: as many as were asked for, unless all members converged before.
        kept_epoch: The one, from 1, whose weights are the result.
        validation_accuracy: Of the averaged prediction after that epoch.
        seconds: What all epochs took, measuring left out.
        machines: Where it was trained: one, or several where it went on elsewhere.
    """

    run: str
    config: dict[str, Any]
    images: dict[str, int]
    member_errors: tuple[Rate, ...]
    ensemble_error: Rate
    median_log_diversity: float
    log_diversity_quantiles: dict[str, float]
    confidence: float
    js_divergence: float
    epochs: int
    kept_epoch: int
    validation_accuracy: float
    seconds: float
    machines: tuple[str, ...]

    @property
    def setting(self) -> Setting:
        """Its weights of the regulariser."""
        return Setting(self.config["alpha"], self.config["beta"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.config["seed"])


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A run with its figures, and what the figures are drawn from.

    Attributes:
        run: On disk.
        dataset: What it was trained on.
        result: Its figures.
        log_diversity: (N,) of the test images.
    """

    run: Run
    dataset: Dataset
    result: Result
    log_diversity: Floats


def evaluated(run: Run, dataset: Dataset, *, device: str = "cpu", threads: int = THREADS) -> Evaluation:
    """Measures a finished run on the test images.

    Args:
        run: A finished one.
        dataset: The data set its settings name.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`; full float32 on each.
        threads: CPU threads, at least 1.

    Raises:
        RunError: The run is not finished, damaged, or was trained on other classes or images.
        InputError: No such device, or its logits are not finite.
    """
    ensemble, checkpoint = run.trained()
    checkpoint.check_listing(dataset.listing)
    trained_on = (checkpoint.image_shape, checkpoint.class_names)
    if trained_on != (dataset.image_shape, dataset.class_names):
        raise RunError(
            f"{run.path}: expected images of {checkpoint.image_shape} in the {len(checkpoint.class_names)} classes "
            f"it was trained on, found {dataset.image_shape} in {len(dataset.class_names)} of '{dataset.name}'"
        )
    test, place = take(dataset, "test"), find_device(device)
    with reproducible(threads, place):
        logits = predict(ensemble.to(place), test, batch_size=_BATCH)
    labels, scores, prediction = np.asarray(test.labels), log_diversity(logits), mean_prediction(logits)
    rows = split_rows(dataset)
    return Evaluation(
        run=run,
        dataset=dataset,
        log_diversity=scores,
        result=Result(
            run=run.path.resolve().name,
            config=asdict(run.config),
            images={split: len(rows[split]) for split in SPLITS},
            member_errors=tuple(Rate.of(logits[:, k].argmax(axis=1) != labels) for k in range(logits.shape[1])),
            ensemble_error=Rate.of(prediction.argmax(axis=1) != labels),
            median_log_diversity=float(np.median(scores)),
            # No interpolation, which between two infinities gives no number.
            log_diversity_quantiles={
                f"{share:g}": float(np.quantile(scores, share, method="inverted_cdf")) for share in _QUANTILES
            },
            confidence=float(prediction.max(axis=1).mean()),
            js_divergence=float(js_divergence(torch.from_numpy(logits)).mean()),
            epochs=len(checkpoint.metrics),
            kept_epoch=checkpoint.kept_epoch,
            validation_accuracy=checkpoint.metrics[checkpoint.kept_epoch - 1]["accuracy"],
            seconds=sum(epoch["seconds"] for epoch in checkpoint.metrics),
            machines=tuple(dict.fromkeys(epoch["machine"] for epoch in checkpoint.metrics)),
        ),
    )
