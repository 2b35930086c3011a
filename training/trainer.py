"""One epoch of simultaneous training, Algorithm 1 of the paper, and what is measured after it.

Deviations from Algorithm 1: members share one optimiser and one learning rate, and none is frozen
before the others. The weights after the last epoch are the result; nothing is selected on any split.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from detector.diversity import log_diversity
from detector.errors import RunError
from detector.imageset import ImageSet, as_floats
from detector.prediction import check_labels, mean_prediction
from training import adp
from training.augment import AUGMENTATIONS
from training.config import TrainConfig
from training.datasets import Dataset
from training.ensemble import build_ensemble
from training.seeds import generator, torch_seed
from training.splits import take

_VALIDATION_BATCH: Final = 512


class Trainer:
    """The ensemble in training, its optimiser and its images.

    Args:
        config: The settings.
        dataset: The data set the settings name.

    Raises:
        InputError: K and L without log diversity, or images too small for the architecture.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset) -> None:
        self.config = config
        training = take(dataset, "train")
        self.images = torch.from_numpy(as_floats(training.images))
        self.labels = torch.from_numpy(_labels(training, dataset))
        self.validation = take(dataset, "validation")
        std, mean = torch.std_mean(self.images, dim=(0, 2, 3))
        self.ensemble = build_ensemble(
            config.arch,
            members=config.members,
            image_shape=dataset.image_shape,
            classes=len(dataset.class_names),
            mean=mean,
            std=std.clamp(min=1e-6),  # a channel that never changes
            seed=config.seed,
        )
        self.optimiser = torch.optim.Adam(self.ensemble.parameters(), lr=config.learning_rate)

    @property
    def steps(self) -> int:
        """Steps in one epoch."""
        return math.ceil(len(self.images) / self.config.batch_size)

    def epoch(self, epoch: int, after_step: Callable[[float], object]) -> dict[str, Any]:
        """Trains for one epoch and measures.

        All draws are keyed by (seed, epoch), so that an epoch is the same whether or not the process
        was started anew before it.

        Args:
            epoch: Its number, from 0.
            after_step: Called with each step's loss.

        Returns:
            What `metrics.jsonl` says about the epoch.

        Raises:
            RunError: The loss or a validation logit is not finite.
        """
        rng = generator(self.config.seed, "epoch", epoch)
        augment = AUGMENTATIONS[self.config.augment]
        torch.manual_seed(torch_seed(self.config.seed, "layers", epoch))  # for networks that draw, as with dropout
        self.ensemble.train()
        total = 0.0
        for step, rows in enumerate(np.array_split(rng.permutation(len(self.images)), self.steps)):
            self._set_learning_rate(epoch * self.steps + step)
            loss = self._step(augment(self.images[rows], rng), self.labels[rows])
            if not math.isfinite(loss):
                raise self._diverged(f"loss: expected a finite number, found {loss} in step {step + 1}", epoch)
            total += loss * len(rows)
            after_step(loss)
        return {"epoch": epoch + 1, "loss": total / len(self.images), **self._validate(epoch)}

    def _step(self, images: Tensor, labels: Tensor) -> float:
        """One step of all members on the ADP loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = adp.loss(self.ensemble(images), labels, alpha=self.config.alpha, beta=self.config.beta)
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss.item()

    def _set_learning_rate(self, step: int) -> None:
        """Half a cosine from the start to the end of the run; a function of the step, so there is no state."""
        share = step / (self.config.epochs * self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _validate(self, epoch: int) -> dict[str, Any]:
        """Accuracies, and the score as a server would compute it, on the validation images."""
        logits = predict(self.ensemble.eval(), self.validation, batch_size=_VALIDATION_BATCH)
        if not np.isfinite(logits).all():
            raise self._diverged("validation logits: expected finite numbers, found NaN or infinity", epoch)
        labels = self.validation.labels
        return {
            "accuracy": float((mean_prediction(logits).argmax(axis=1) == labels).mean()),
            "member_accuracy": [float((logits[:, k].argmax(axis=1) == labels).mean()) for k in range(logits.shape[1])],
            "median_log_diversity": float(np.median(log_diversity(logits))),
        }

    def _diverged(self, what: str, epoch: int) -> RunError:
        """What to do about it; the checkpoint on disk is still that of the epoch before."""
        return RunError(
            f"{what}, epoch {epoch + 1}; the last good checkpoint is that of epoch {epoch}. Train into a new folder "
            f"with a --learning-rate below {self.config.learning_rate:g}, or a --beta below {self.config.beta:g}"
        )


def predict(ensemble: nn.Module, images: ImageSet, *, batch_size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The ensemble's logits without gradients: (N, K, L) float32. The ensemble is in evaluation mode."""
    floats = torch.from_numpy(as_floats(images.images))
    with torch.inference_mode():
        return torch.cat([ensemble(batch) for batch in torch.split(floats, batch_size)]).numpy()


def _labels(images: ImageSet, dataset: Dataset) -> Any:
    """Labels that are there and within the classes."""
    return check_labels(np.asarray(images.labels), len(images), len(dataset.class_names))
