"""Attacked images of a run, with what is known about each: `ledgate attack` from Python."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.attacked import judged
from detector.document import sha256
from detector.errors import InputError
from detector.imageset import ImageSet, as_floats
from detector.prediction import Ints, mean_prediction
from detector.shares import Shares
from detector.unfinished import Unfinished
from training.adp import log_mean
from training.aim import Aim, AwayFromLabel, Batch
from training.attacks import Attack, DetectorAware
from training.execution import THREADS, reproducible
from training.run import Run
from training.trainer import predict
from training.victim import Victim

BATCH_SIZE: Final = 256
_NO_AIM: Final = AwayFromLabel()


def attack(
    run: Run | Path | str,
    images: ImageSet,
    settings: Attack,
    *,
    aim: Aim = _NO_AIM,
    member: int | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    progress: bool = True,
    threads: int = THREADS,
    unfinished: Path | None = None,
) -> ImageSet:
    """Attacks images, white box, against a finished run: all of its members, or one.

    Args:
        run: The run, or its folder.
        images: What to start from, with true labels. Their own `clean` and `success` are of an
            earlier attack, and are not looked at.
        settings: The attack.
        aim: What is wanted of each image, and the loss that says so.
        member: Craft against this member alone, from 0; by default against the ensemble. Success is the
            ensemble's mistake all the same, so that this is the transfer from one member to all.
        batch_size: Images at a time; changes no image's result but for rounding.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        progress: Whether to show a bar on standard error, if that is a terminal.
        threads: CPU threads, at least 1; see `training.execution`.
        unfinished: A folder to keep finished batches in, so that the same call goes on where it was stopped;
            removed by `detector.unfinished.discard` once the result is written.

    Returns:
        As many images, float32, in the same order, with `clean`, `labels`, `source_index`,
        `clean_correct`, `success` (right before and wrong after), for a `DetectorAware` attack `evaded` (a success
        that is not flagged) and `info["attack"]`: the settings, aim and
        member, how many were right before and wrong after, for the ensemble and for each member, and the norms
        of the changes. Attacks with a fixed budget return their last iterate whether or not it succeeded; those
        that look for the smallest change return the input where they fail.

    Raises:
        RunError: Not a finished run.
        InputError: No labels, or images, labels or settings that do not fit the run.
    """
    if batch_size < 1:
        raise InputError(f"batch_size: expected at least 1, found {batch_size}")
    victim = Victim.open(run, device=device)
    labels = victim.labels_of(images)
    rows, clean = images.rows, as_floats(images.images)
    made_by = {**settings.describe(), **aim.describe(), **({} if member is None else {"member": member})}
    kept = None
    if unfinished is not None:
        kept = Unfinished(unfinished, {
            "attack": made_by, "batch_size": batch_size, "run": victim.digest, "device": victim.device.type,
            "images": sha256(clean.tobytes() + labels.tobytes() + rows.tobytes()),
        })  # fmt: skip
    with reproducible(threads, victim.device), Shares(len(clean), settings.name, shown=progress) as shares:
        work = _Work(victim.member(member), settings, aim, victim.device, kept, shares)
        attacked = np.concatenate(list(work.batches(clean, labels, rows, batch_size)))
        before, after = (
            predict(victim.ensemble, ImageSet(images=part), batch_size=batch_size) for part in (clean, attacked)
        )
    result, found = judged(images, attacked, _classes(before), _classes(after))
    found["wrong_after"]["members"] = (after.argmax(axis=2) != labels[:, None]).sum(axis=0).tolist()
    if isinstance(settings, DetectorAware):
        evaded = np.asarray(result.success) & ~settings.flags(after)
        result, found["evaded"] = replace(result, evaded=evaded), int(evaded.sum())
    return replace(result, info={**images.info, "attack": {**made_by, "found": found}})


@dataclass(frozen=True)
class _Work:
    """An attack on batches; those that an earlier call finished are not attacked again."""

    network: nn.Module
    settings: Attack
    aim: Aim
    device: torch.device
    kept: Unfinished | None
    shares: Shares

    def batches(self, clean: NDArray[np.float32], labels: Ints, rows: Ints, size: int) -> Iterator[NDArray[np.float32]]:
        """The attacked images of each batch."""
        for number, start in enumerate(range(0, len(clean), size)):
            batch = slice(start, start + size)
            done = None if self.kept is None else self.kept.load(number)
            if done is None:
                images = torch.from_numpy(clean[batch]).to(self.device)
                found = self._perturb(images, torch.from_numpy(labels[batch]).to(self.device), rows[batch])
                done = {"images": found.cpu().numpy()}
                if self.kept is not None:
                    self.kept.save(number, **done)
            self.shares.finish(len(done["images"]))
            yield done["images"]

    def _perturb(self, images: Tensor, labels: Tensor, rows: Ints) -> Tensor:
        """One batch."""
        with torch.inference_mode():
            log_prediction = log_mean(self.network(images))
        # Taken out of inference mode, for use where gradients are.
        predictions = log_prediction.argmax(dim=1).clone()
        objective = self.aim.objective(
            Batch(labels=labels, predictions=predictions, classes=log_prediction.shape[1], rows=rows)
        )
        report = self.shares.part(len(images))
        return self.settings.perturb(self.network, images, objective, rows, progress=report)


def _classes(logits: NDArray[np.float32]) -> Ints:
    """The ensemble's class of each image: (N, K, L) logits to (N,)."""
    return np.asarray(mean_prediction(logits).argmax(axis=1))
