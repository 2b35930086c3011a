"""The images that every detector is asked about: the very same ones for all, ours and others'."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from detector.document import sha256
from detector.imageset import ImageSet, as_floats
from detector.shifts import SHIFTS
from training.detection.counts import CHANGED
from training.detection.strangers import strangers
from training.detection.subject import SEED, sources_of

Answer = TypeVar("Answer", bound=NDArray[Any])
Other = TypeVar("Other", bound=NDArray[Any])


@dataclass(frozen=True, kw_only=True)
class Answers(Generic[Answer]):
    """What a detector, or the ensemble, says of all images: arrays whose first axis is the images.

    Attributes:
        behind: Of the clean images that choose the threshold.
        clean: Of the clean test images.
        attacked: Of the test images under each attack.
        aimed: Of the test images of each attacker who knows a score, by that score.
        changed: Of some clean test images after each mild change.
        strange: Of images of none of the classes, by their kind.
    """

    behind: Answer
    clean: Answer
    attacked: Mapping[str, Answer]
    aimed: Mapping[str, Answer]
    changed: Mapping[str, Answer]
    strange: Mapping[str, Answer]

    def map(self, function: Callable[[Answer], Other]) -> "Answers[Other]":
        """What follows from each."""
        return Answers(
            behind=function(self.behind),
            clean=function(self.clean),
            attacked={name: function(answer) for name, answer in self.attacked.items()},
            aimed={name: function(answer) for name, answer in self.aimed.items()},
            changed={name: function(answer) for name, answer in self.changed.items()},
            strange={name: function(answer) for name, answer in self.strange.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Material:
    """The images of a run.

    Attributes:
        behind: Clean calibration images that choose thresholds.
        clean: Clean test images.
        attacked: Attacked test images by the attack's method; those of each are part of `clean`, or all of it.
        aimed: Test images attacked by someone who knows a score, by that score.
    """

    behind: ImageSet
    clean: ImageSet
    attacked: Mapping[str, ImageSet]
    aimed: Mapping[str, ImageSet]

    @cached_property
    def changed(self) -> Mapping[str, ImageSet]:
        """Some of the clean test images after each mild change; draws are keyed by the image's row."""
        some = as_floats(self.clean.images[:CHANGED])
        rows = sources_of(self.clean)[:CHANGED]
        return {
            shift.name: ImageSet(images=np.stack([shift.apply(*each) for each in zip(some, rows, strict=True)]))  # type: ignore[arg-type]
            for shift in SHIFTS
        }

    @cached_property
    def strange(self) -> Mapping[str, ImageSet]:
        """Images of none of the classes, as many of each kind as are changed; see `training.detection.strangers`."""
        found = strangers(as_floats(self.clean.images[:CHANGED]), SEED)
        return {name: ImageSet(images=images) for name, images in found.items()}

    def ask(self, judge: Callable[[ImageSet], Answer]) -> Answers[Answer]:
        """What a detector, or an ensemble, says of all of them."""
        return Answers(
            behind=judge(self.behind),
            clean=judge(self.clean),
            attacked={name: judge(images) for name, images in self.attacked.items()},
            aimed={name: judge(images) for name, images in self.aimed.items()},
            changed={name: judge(images) for name, images in self.changed.items()},
            strange={name: judge(images) for name, images in self.strange.items()},
        )

    @property
    def digest(self) -> str:
        """What tells these images from others."""
        sets = [self.behind, self.clean, *self.attacked.values(), *self.aimed.values(), *self.strange.values()]
        content = [sha256(np.ascontiguousarray(each.images).tobytes()) for each in sets]
        return sha256(
            " ".join([*content, *self.attacked, *self.aimed, *self.strange, str(SEED), str(CHANGED)]).encode()
        )
