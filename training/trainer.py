"""One epoch of Algorithm 1 of the paper, and what is measured after it."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.diversity import log_diversity
from detector.errors import InputError, RunError
from detector.imageset import Images, ImageSet, as_floats
from detector.prediction import mean_prediction
from training import adp
from training.augment import AUGMENTATIONS
from training.config import TrainConfig
from training.convergence import converged
from training.datasets import Dataset
from training.ensemble import Ensemble, build_ensemble
from training.execution import describe_machine
from training.feed import Feed
from training.growth import size_at, sizes
from training.networks import check_answers
from training.parallel import Group
from training.precision import full_float32
from training.seeds import generator, torch_seed
from training.splits import split_rows, take
from training.step import sampled
from training.update import Update

# How often the loss is fetched from a GPU, which waits for it.
_LOOK_EVERY: Final = 50
# How torch says it on the CPU, and a library of CUDA's.
_OUT_OF_MEMORY: Final = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
# Pixels whose mean is taken at once.
_CHUNK: Final = 2**24


class Trainer:
    """The ensemble in training, its optimiser and its images.

    Args:
        config: The settings.
        dataset: The data set the settings name.
        device: Where to train.
        group: The processes that train together.

    Raises:
        InputError: K and L without log diversity, images that do not fit the architecture, or more in a batch, or
            more classes in a sample, than there are.
    """

    def __init__(
        self, config: TrainConfig, dataset: Dataset, *, device: torch.device | None = None, group: Group | None = None
    ) -> None:
        self.config = config
        self.group = group or Group()
        self.device = device or torch.device("cpu")
        self.classes = len(dataset.class_names)
        rows = split_rows(dataset)["train"]
        self.group.check_batch(config.batch_size)
        _check_fits(config, len(rows), self.classes)
        # A slice of a file stays on disk, and rows of it are looked up when they are read.
        self._rows = rows if isinstance(dataset.images, np.memmap) else np.arange(len(rows))
        images, labels = (dataset.images, dataset.labels) if self._rows is rows else (
            dataset.images[rows], dataset.labels[rows])  # fmt: skip
        self.feed = Feed(images, labels, self.device)
        self.validation = take(dataset, "validation")
        self._image_size = dataset.image_shape[1:]
        self.ensemble = _untrained(config, dataset, *pixel_statistics(images, self._rows, config.normalise))
        self.ensemble.to(self.device)
        if self.group.size > 1 and self.device.type == "cuda":
            # Inside the ensemble, which stays what it is.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.ensemble)  # type: ignore[no-untyped-call]
        self._update = Update(self.ensemble, config, self.group)
        self.optimiser = self._update.optimiser

    @property
    def steps(self) -> int:
        """Steps in one epoch."""
        return len(self._rows) // self.config.batch_size

    def epoch(
        self, metrics: Sequence[dict[str, Any]], after_step: Callable[[Sequence[float] | None], object]
    ) -> dict[str, Any] | None:
        """Trains for one epoch and measures.

        All draws are keyed by (seed, epoch), so that an epoch is the same whether or not the process
        was started anew before it.

        Args:
            metrics: Of the epochs before, which say what has converged.
            after_step: Called after each step with the means of the epoch so far, of the loss, the cross-entropy, the
                entropy and the log diversity, see `training.adp.terms`; or None where they were not fetched.

        Returns:
            What `metrics.jsonl` says about the epoch; None in the processes that do not measure.

        Raises:
            RunError: The loss or a validation logit is not finite, or memory ran out.
        """
        started = time.perf_counter()
        epoch = len(metrics)
        frozen = converged(metrics, self.config)
        self._set_modes(frozen)
        # For networks that draw, as with dropout.
        torch.manual_seed(torch_seed(self.config.seed, "layers", epoch, self.group.rank))
        with self._memory():
            loss, cross_entropy, entropy, diversity = self._train(epoch, frozen, after_step)
            self.group.align(self.ensemble.buffers())
            seconds = time.perf_counter() - started
            if not self.group.leads:
                return None
            measured = self._validate(epoch)
        return {
            "epoch": epoch + 1,
            "loss": loss,
            "cross_entropy": cross_entropy,
            **({"entropy": entropy} if self.config.alpha else {}),
            **({"log_diversity": diversity} if self.config.beta else {}),
            **({"frozen": sorted(frozen)} if self.config.patience else {}),
            **measured,
            "seconds": round(seconds, 2),
            "machine": describe_machine(self.device, self.group.size),
        }

    def _train(
        self, epoch: int, frozen: frozenset[int], after_step: Callable[[Sequence[float] | None], object]
    ) -> list[float]:
        """The epoch's steps; returns the means of the loss and its terms."""
        config, steps = self.config, self.steps
        rng = generator(config.seed, "epoch", epoch)
        order = self._rows[rng.permutation(len(self._rows))][: steps * config.batch_size]
        picks = np.split(order, steps)
        augmentation = AUGMENTATIONS[config.augment]
        totals = torch.zeros(4, dtype=torch.float64, device=self.device)
        shares = [self.group.share(rows) for rows in picks]
        for step, (images, labels) in enumerate(self.feed.batches(shares)):
            # Drawn for the whole batch in every process, so that it does not matter how many there are.
            done = (epoch * steps + step) / (config.epochs * steps)
            size = size_at(self._image_size, done) if config.growing else self._image_size
            table = self.group.share(augmentation.table(rng, config.batch_size))
            classes = self._sampled(labels, epoch, step) if config.sampled_classes else None
            totals += self._update(
                images, labels, table, done=done, size=size, frozen=frozen, classes=classes,
                rows=shares[step], key=(config.seed, epoch, step),
            )  # fmt: skip
            looks = self.device.type == "cpu" or (step + 1) % _LOOK_EVERY == 0 or step + 1 == steps
            after_step(self._means(totals, epoch, step) if looks else None)
        means: list[float] = (self.group.sum(totals) / (steps * self.group.size)).tolist()
        return means

    def _sampled(self, labels: Tensor, epoch: int, step: int) -> Tensor:
        """The classes the entropy is taken over; drawn for the whole batch, like the augmentation."""
        rng = generator(self.config.seed, "classes", epoch, step)
        table = rng.random((self.config.batch_size, self.classes - 1), dtype=np.float32)
        return sampled(labels, self.group.share(table), self.config.sampled_classes)

    def _set_modes(self, frozen: frozenset[int]) -> None:
        """Members that learn are in training mode; the others take no part in anything but the loss."""
        for k, member in enumerate(self.ensemble.members):
            member.train(k not in frozen)

    def _validate(self, epoch: int) -> dict[str, Any]:
        """Accuracies and losses, and the score as a server would compute it, on the validation images."""
        # A GPU is idle between small batches, and without activations to keep there is room for larger ones.
        size = self.config.batch_size * (4 if self.device.type == "cuda" else 1)
        logits = predict(self.ensemble.eval(), self.validation, batch_size=size)
        if not np.isfinite(logits).all():
            raise self._diverged("validation logits: expected finite numbers, found NaN or infinity", epoch)
        labels = np.asarray(self.validation.labels)
        tensors = torch.from_numpy(logits)
        log_probabilities = torch.log_softmax(tensors.double(), dim=2).numpy()
        return {
            "accuracy": float((mean_prediction(logits).argmax(axis=1) == labels).mean()),
            "member_accuracy": [float((logits[:, k].argmax(axis=1) == labels).mean()) for k in range(logits.shape[1])],
            "member_loss": (-log_probabilities[np.arange(len(labels)), :, labels].mean(axis=0)).tolist(),
            "median_log_diversity": float(np.median(log_diversity(logits))),
            "js_divergence": float(adp.js_divergence(tensors).mean()),
        }

    def _means(self, totals: Tensor, epoch: int, step: int) -> list[float]:
        """Those of the epoch so far, fetched; a sum that is no number tells that one was none since the last look."""
        found: list[float] = totals.tolist()
        if not math.isfinite(found[0]):
            raise self._diverged(f"loss: expected a finite number, found {found[0]} by step {step + 1}", epoch)
        return [total / (step + 1) for total in found]

    def _diverged(self, what: str, epoch: int) -> RunError:
        """What to do about it; the checkpoint on disk is still that of the epoch before."""
        kept = f"the last good checkpoint is that of epoch {epoch}" if epoch else "there is no checkpoint yet"
        beta = f", or a --beta below {self.config.beta:g}" if self.config.beta else ""
        return RunError(
            f"{what}, epoch {epoch + 1}; {kept}. Train into a new folder with a --learning-rate below "
            f"{max(self.config.learning_rates):g}{beta}"
        )

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Says what to do when there is not enough."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory() from error
        except RuntimeError as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise self._out_of_memory() from error
            raise

    def _out_of_memory(self) -> RunError:
        """What to do about it."""
        sequential = "" if self.config.sequential else ", or with --sequential"
        return RunError(
            f"memory: ran out of it on {self.device}; the last good checkpoint is kept. Train into a new folder with "
            f"a --batch-size below {self.config.batch_size}{sequential}"
        )


def predict(ensemble: nn.Module, images: ImageSet, *, batch_size: int) -> NDArray[np.float32]:
    """The ensemble's logits without gradients, in full float32: (N, K, L). The ensemble is in evaluation mode."""
    device = next(ensemble.parameters()).device
    parts = []
    with torch.inference_mode(), full_float32():
        for start in range(0, len(images), batch_size):
            floats = torch.from_numpy(as_floats(images.images[start : start + batch_size])).to(device)
            parts.append(ensemble(floats).float().cpu())
    return torch.cat(parts).numpy()


def pixel_statistics(images: Images, rows: NDArray[np.int64], normalise: str) -> tuple[Tensor, Tensor]:
    """What normalisation takes from the training images, in one pass over them.

    Args:
        images: (N, C, H, W), uint8 or float32 in [0, 1].
        rows: Those to look at.
        normalise: `channel` or `pixel`.

    Returns:
        Mean and divisor, float32: (C, 1, 1) for `channel`; (C, H, W) for `pixel`, which divides by 1.
    """
    total = np.zeros(images.shape[1:])
    squares = np.zeros_like(total)
    count = max(1, _CHUNK // math.prod(images.shape[1:]))
    for start in range(0, len(rows), count):
        chunk = as_floats(images[rows[start : start + count]])
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += np.square(chunk).sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    if normalise == "pixel":
        return torch.from_numpy(mean).float(), torch.ones(mean.shape)
    channel = mean.mean(axis=(1, 2), keepdims=True)
    variance = (squares / len(rows)).mean(axis=(1, 2), keepdims=True) - channel**2
    std = np.sqrt(variance.clip(min=1e-12))  # a channel that never changes
    return torch.from_numpy(channel).float(), torch.from_numpy(std).float()


def _untrained(config: TrainConfig, dataset: Dataset, mean: Tensor, std: Tensor) -> Ensemble:
    """The ensemble as it starts; refuses networks that cannot take images of the sizes to come."""
    classes = len(dataset.class_names)
    ensemble = build_ensemble(
        config.arch,
        members=config.members,
        image_shape=dataset.image_shape,
        classes=classes,
        mean=mean,
        std=std,
        seed=config.seed,
    )
    channels, *full = dataset.image_shape
    for size in sizes((full[0], full[1])) if config.growing else ():
        check_answers(config.arch, ensemble.members[0], (channels, *size), classes)
    return ensemble


def _check_fits(config: TrainConfig, count: int, classes: int) -> None:
    """Refuses settings that only the data set shows to be too large."""
    if config.batch_size > count:
        raise InputError(f"batch_size: expected at most the {count} training images, found {config.batch_size}")
    if config.sampled_classes > classes - 1:
        raise InputError(f"sampled_classes: expected at most {classes - 1}, found {config.sampled_classes}")
