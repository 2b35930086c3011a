"""Images attacked by asking alone, with what is known about each: `ledgate attack` where there are no gradients.

Of a bundle, of a server, or of anything else that answers images with predictions. The gradient attacks on a
training run are `training.attacked`, and both write the same form.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.ball import FloatImages
from detector.document import sha256
from detector.errors import InputError, SettingError
from detector.goal import Goal, Targeted, Towards, Untargeted
from detector.imageset import ImageSet, as_floats
from detector.norms import norms
from detector.oracle import Oracle
from detector.prediction import Ints
from detector.shares import Shares
from detector.square import Square
from detector.unfinished import Unfinished

BATCH_SIZE: Final = 64


def attack(
    oracle: Oracle,
    images: ImageSet,
    settings: Square,
    *,
    target: Towards | None = None,
    batch_size: int = BATCH_SIZE,
    progress: bool = True,
    unfinished: Path | None = None,
) -> ImageSet:
    """Attacks images by asking.

    Args:
        oracle: Whom to ask.
        images: What to start from, with true labels. Their own `clean` and `success` are of an earlier attack, and
            are not looked at.
        settings: The attack.
        target: The class that each image is to be taken for; by default any but the true one.
        batch_size: Images at a time; changes no image's result, unless the oracle's budget ends the attack.
        progress: Whether to show a bar on standard error, if that is a terminal.
        unfinished: A folder to keep finished batches in, so that the same call goes on where it was stopped;
            removed by `detector.unfinished.discard` once the result is written.

    Returns:
        The images, float32, in the same order, with `clean`, `labels`, `source_index`, `clean_correct`, `success`
        (right before and wrong after), `queries` and `info["attack"]`: the settings and the target, what was asked,
        how many were right before and wrong after, the norms of the changes, and how many queries it took. Each is
        as the search left it, whether or not that succeeded. Where the oracle's budget ends the attack, `info` says
        so under `found`, and the images that were never asked about are left out.

    Raises:
        InputError: No labels; images, labels or a target that do not fit the oracle; or a budget without room for
            one query about each image of the first batch.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size: expected at least 1, found {batch_size}")
    labels, rows, clean = oracle.labels_of(images), images.rows, as_floats(images.images)
    goal = Untargeted(labels) if target is None else Targeted(target.targets(labels, rows, oracle.classes))
    name = settings.name + ("" if target is None else target.suffix)
    made_by = {**settings.describe(), "loss": "label", **({} if target is None else target.describe())}
    made_by |= {"asked": dict(oracle.known_as)}
    kept = None
    if unfinished is not None:
        kept = Unfinished(unfinished, {
            "attack": made_by, "batch_size": batch_size, "budget": oracle.budget,
            "images": sha256(clean.tobytes() + labels.tobytes() + rows.tobytes()),
        })  # fmt: skip
    with Shares(len(clean), name, shown=progress) as shares:
        parts = list(_Work(oracle, settings, goal, kept, shares).batches(clean, rows, batch_size))
    if not parts:
        raise InputError(f"budget: expected at least {min(batch_size, len(clean))} queries, one about each image of "
                         f"the first batch, found {oracle.budget}")  # fmt: skip
    attacked, queries, before, after = (np.concatenate([part[name] for part in parts]) for name in _PART)
    asked_about = np.arange(len(clean)) < len(attacked)
    result, found = judged(images.only(asked_about), attacked, before, after)
    found["queries"] = {"total": int(queries.sum()), "median_of_successes": _median(queries[result.success])}
    reached = goal.only(asked_about).reached(after)
    if target is not None:
        found["target_reached"] = int(reached.sum())
    if oracle.budget is not None:
        cut_short = (queries < settings.queries) & ~reached
        left_out = len(clean) - len(attacked)
        found["budget"] = {"queries": oracle.budget, "ended": bool(left_out or cut_short.any()), "left_out": left_out}
    return replace(result, queries=queries, info={**images.info, "attack": {**made_by, "name": name, "found": found}})


def judged(images: ImageSet, attacked: FloatImages, before: Ints, after: Ints) -> tuple[ImageSet, dict[str, Any]]:
    """Attacked images as a set, and the figures on them.

    Args:
        images: What they were made from, with labels.
        attacked: (N, C, H, W).
        before: (N,), the predicted classes of `images`.
        after: (N,), those of `attacked`.
    """
    labels, clean = images.labels, as_floats(images.images)
    correct = np.asarray(before == labels)
    success = np.asarray(correct & (after != labels))
    result = ImageSet(
        images=attacked,
        labels=labels,
        source_index=images.source_index,
        clean=clean,
        clean_correct=correct,
        success=success,
    )
    return result, {
        "clean_correct": int(correct.sum()),
        "wrong_after": {"ensemble": int((after != labels).sum())},
        "success": int(success.sum()),
        "norms_of_successes": norms(attacked[success], clean[success]),
    }


@dataclass(frozen=True)
class _Work:
    """An attack on batches; those that an earlier call finished are not attacked again."""

    oracle: Oracle
    settings: Square
    goal: Goal
    kept: Unfinished | None
    shares: Shares

    def batches(self, clean: FloatImages, rows: Ints, size: int) -> Iterator[Mapping[str, NDArray[Any]]]:
        """What was found of each batch, until the oracle's budget is too small for the next."""
        for number, start in enumerate(range(0, len(clean), size)):
            batch = slice(start, start + size)
            done = None if self.kept is None else self.kept.load(number)
            if done is not None:
                self.oracle.charge(int(done["queries"].sum()))
            elif not self.oracle.covers(len(clean[batch])):
                return
            else:
                done = self._search(clean[batch], np.arange(len(clean))[batch], rows[batch])
                if self.kept is not None:
                    self.kept.save(number, **done)
            self.shares.finish(len(done["images"]))
            yield done

    def _search(self, clean: FloatImages, places: Ints, rows: Ints) -> dict[str, NDArray[Any]]:
        """One batch."""
        report = self.shares.part(len(clean))
        found = self.settings.search(self.oracle, clean, self.goal.only(places), rows, progress=report)
        return {name: getattr(found, name) for name in _PART}


_PART: Final = ("images", "queries", "before", "after")


def _median(queries: Ints) -> float | None:
    """The median; None of none."""
    return float(np.median(queries)) if len(queries) else None
