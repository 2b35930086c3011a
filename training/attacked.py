"""Attacked images of a run, with what is known about each: `ledgate attack` from Python.

Gradients are followed through a folded copy of the networks, which is faster. What is recorded is what the networks
themselves say of clean and attacked images, in full float32 on a GPU too; where an attack took an image for done
because of the copy's rounding, or of a GPU's, it is attacked once more without either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.attacked import judged
from detector.document import sha256
from detector.errors import InputError, SettingError
from detector.imageset import ImageSet, as_floats
from detector.prediction import Ints, mean_prediction
from detector.shares import Shares
from detector.unfinished import Unfinished
from training.adp import log_mean
from training.aim import Aim, AwayFromLabel, Batch
from training.attacks import Attack, DetectorAware, Objective
from training.attacks.batches import any_batch_size
from training.execution import THREADS, reproducible
from training.precision import full_float32
from training.run import Run
from training.victim import Victim

# A GPU with fewer waits for the next kernel more than it computes.
_BATCH_SIZES: Final = {"cpu": 256, "cuda": 1024}
_NO_AIM: Final = AwayFromLabel()
_PART: Final = ("images", "before", "after")


@dataclass(frozen=True)
class Attacked:
    """Attacked images, and what was looked at to judge them.

    Attributes:
        images: See `attack`.
        before: (N, K, L) float32, the members' logits of the clean images.
        after: (N, K, L) float32, those of the attacked ones.
        targets: (N,), the class that each image was to be taken for; None where that is no certain class.
    """

    images: ImageSet
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    targets: Ints | None


def batch_size_on(device: torch.device) -> int:
    """How many images are attacked at a time."""
    return _BATCH_SIZES.get(device.type, _BATCH_SIZES["cpu"])


def attack(
    run: Run | Path | str,
    images: ImageSet,
    settings: Attack,
    *,
    aim: Aim = _NO_AIM,
    member: int | None = None,
    batch_size: int | None = None,
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
        batch_size: Images at a time, by default as `batch_size_on` the device; changes no image's result but for
            rounding.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        progress: Whether to show a bar on standard error, if that is a terminal.
        threads: CPU threads, at least 1; see `training.execution`.
        unfinished: A folder to keep finished batches in, so that the same call goes on where it was stopped;
            removed by `detector.unfinished.discard` once the result is written.

    Returns:
        As many images, float32, in the same order, with `clean`, `labels`, `source_index`,
        `clean_correct`, `success` (right before and wrong after), for a `DetectorAware` attack `evaded` (a success
        that is not flagged) and `info["attack"]`: the settings, aim and member, how many were right before and wrong
        after, for the ensemble and for each member, how many are taken for their target where there is one, and the
        norms of the changes. Its `name` says which aim or member, where that is not the usual one:
        `pgd10-0.1-as-in-paper`, `pgd10-0.1-on-member0`. Attacks with a fixed budget return their last iterate
        whether or not it succeeded; those that look for the smallest change return the input where they fail.

    Raises:
        RunError: Not a finished run.
        InputError: No labels, or images, labels or settings that do not fit the run.
    """
    return attack_with_logits(
        run, images, settings, aim=aim, member=member, batch_size=batch_size, device=device, progress=progress,
        threads=threads, unfinished=unfinished,
    ).images  # fmt: skip


def attack_with_logits(
    run: Run | Path | str,
    images: ImageSet,
    settings: Attack,
    *,
    aim: Aim = _NO_AIM,
    member: int | None = None,
    batch_size: int | None = None,
    device: str = "cpu",
    progress: bool = True,
    threads: int = THREADS,
    unfinished: Path | None = None,
) -> Attacked:
    """The same, with the logits by which the images are judged, for whoever judges them in other ways too."""
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"batch_size: expected at least 1, found {batch_size}")
    if member is not None and isinstance(settings, DetectorAware):
        raise InputError(f"member: expected none, since what a detector judges is all members together, found {member}")
    victim = Victim.open(run, device=device)
    victim.member(member)  # refuses one that is not there
    batch_size = batch_size or batch_size_on(victim.device)
    labels = victim.labels_of(images)
    rows, clean = images.rows, as_floats(images.images)
    made_by = {**settings.describe(), **aim.describe(), **({} if member is None else {"member": member})}
    name = f"{settings.name}{aim.suffix}{'' if member is None else f'-on-member{member}'}"
    kept = None
    if unfinished is not None:
        kept = Unfinished(unfinished, {
            "attack": made_by, "batch_size": batch_size, "run": victim.digest, "device": victim.device.type,
            "images": sha256(clean.tobytes() + labels.tobytes() + rows.tobytes()), "holds": list(_PART),
        })  # fmt: skip
    with reproducible(threads, victim.device), Shares(len(clean), name, shown=progress) as shares:
        work = _Work(victim, member, settings, aim, kept, shares)
        parts = list(work.batches(clean, labels, rows, batch_size))
    attacked, before, after = (np.concatenate([part[name] for part in parts]) for name in _PART)
    classes = _classes(after)
    result, found = judged(images, attacked, _classes(before), classes)
    found["wrong_after"]["members"] = (after.argmax(axis=2) != labels[:, None]).sum(axis=0).tolist()
    targets = aim.targets(_batch(torch.from_numpy(labels), torch.from_numpy(before), rows))
    if targets is not None:
        found["target_reached"] = int((classes == targets).sum())
    if isinstance(settings, DetectorAware):
        evaded = np.asarray(result.success) & ~settings.flags(after)
        result, found["evaded"] = replace(result, evaded=evaded), int(evaded.sum())
    result = replace(result, info={**images.info, "attack": {**made_by, "name": name, "found": found}})
    return Attacked(result, before, after, targets)


@dataclass(frozen=True)
class _Work:
    """An attack on batches; those that an earlier call finished are not attacked again."""

    victim: Victim
    member: int | None
    settings: Attack
    aim: Aim
    kept: Unfinished | None
    shares: Shares

    def batches(
        self, clean: NDArray[np.float32], labels: Ints, rows: Ints, size: int
    ) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Of each batch, the attacked images, and the logits before and after."""
        device = self.victim.device
        for number, start in enumerate(range(0, len(clean), size)):
            batch = slice(start, start + size)
            done = None if self.kept is None else self.kept.load(number)
            if done is None:
                images = torch.from_numpy(clean[batch]).to(device)
                done = self._perturb(images, torch.from_numpy(labels[batch]).to(device), rows[batch])
                if self.kept is not None:
                    self.kept.save(number, **done)
            self.shares.finish(len(done["images"]))
            yield done

    def _perturb(self, images: Tensor, labels: Tensor, rows: Ints) -> dict[str, NDArray[Any]]:
        """One batch."""
        before = _logits(self.victim.ensemble, images)
        objective = self.aim.objective(_batch(labels, self._own(before), rows))
        folded, report = self.victim.folded_member(self.member), self.shares.part(len(images))
        found = self.settings.perturb(folded, images, objective, rows, progress=report)
        after = _logits(self.victim.ensemble, found)
        left = self._mistaken(found, after, objective)
        if len(left):
            network, places = self.victim.member(self.member), rows[left.cpu().numpy()]
            with full_float32():
                found[left] = self.settings.perturb(network, images[left], objective.only(left), places)
            after[left] = _logits(self.victim.ensemble, found[left])
        tensors = {"images": found, "before": before.float(), "after": after.float()}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def _mistaken(self, found: Tensor, after: Tensor, objective: Objective) -> Tensor:
        """The places of those that are done by the folded networks and not by the networks themselves."""
        reached = self.settings.reached
        left = (~reached(objective, self._own(after))).nonzero().flatten()
        if not len(left):
            return left
        # In the arithmetic that it was followed in.
        with torch.no_grad(), any_batch_size():
            logits = self.victim.folded_member(self.member)(found[left])
        return left[reached(objective.only(left), logits)]

    def _own(self, logits: Tensor) -> Tensor:
        """What the attacked network says, of what all members say: (N, K, L) to the same, or (N, 1, L) of one."""
        return logits if self.member is None else logits[:, self.member : self.member + 1]


def _batch(labels: Tensor, logits: Tensor, rows: Ints) -> Batch:
    """What is known of clean images, by the logits of the attacked network."""
    log_prediction = log_mean(logits)
    return Batch(labels=labels, predictions=log_prediction.argmax(dim=1), classes=log_prediction.shape[1], rows=rows)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """(N, K, L), without gradients, as exactly as the networks are exported."""
    with torch.no_grad(), full_float32():
        logits: Tensor = network(images)
    return logits


def _classes(logits: NDArray[np.float32]) -> Ints:
    """The ensemble's class of each image: (N, K, L) logits to (N,)."""
    return np.asarray(mean_prediction(logits).argmax(axis=1))
