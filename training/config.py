"""What a training run is made from: the numbers that, with a seed, decide every weight.

The defaults are the recipe for `digits`: chosen on its validation and calibration images, over
several seeds.
"""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from detector.errors import InputError
from detector.prediction import MIN_MEMBERS
from training.augment import AUGMENTATIONS
from training.datasets import DATASETS
from training.networks import ARCHITECTURES


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run.

    Attributes:
        dataset: Its name, see `training.datasets`.
        arch: The members' architecture, see `training.networks`.
        members: K, at least 2; at most L - 1, which is checked once the data set is read.
        alpha: Weight of the entropy of the ensemble's prediction in Eq. (5), at least 0.
        beta: Weight of the log diversity in Eq. (5), at least 0. With alpha = beta = 0 members
            train independently: the paper's baseline.
        epochs: How often every training image is seen, at least 1.
        batch_size: Images in one step, at least 2; the last batches of an epoch are evened out.
        learning_rate: Adam's, at the start; it falls along half a cosine, to zero after the last step.
        augment: How training images are varied, see `training.augment`.
        seed: Of weights, shuffles and augmentation, at least 0. It does not move the splits.

    Raises:
        InputError: A field that does not fit; names the field, what was expected and what was found.
    """

    dataset: str = "digits"
    arch: str = "cnn"
    members: int = 3
    alpha: float = 2.0
    beta: float = 0.5
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    augment: str = "affine"
    seed: int = 0

    def __post_init__(self) -> None:
        self._one_of("dataset", DATASETS)
        self._one_of("arch", ARCHITECTURES)
        self._whole("members", MIN_MEMBERS)
        self._number("alpha")
        self._number("beta")
        self._whole("epochs", 1)
        self._whole("batch_size", 2)
        self._number("learning_rate")
        if self.learning_rate == 0:
            raise InputError("learning_rate: expected a number above 0, found 0")
        self._one_of("augment", AUGMENTATIONS)
        self._whole("seed", 0)

    def _one_of(self, field: str, names: Any) -> None:
        """Refuses an unknown name."""
        value = getattr(self, field)
        if value not in names:
            raise InputError(f"{field}: expected one of {', '.join(sorted(names))}, found {value!r}")

    def _whole(self, field: str, least: int) -> None:
        """Refuses what is not an int, or too small; a bool is not a number."""
        value = getattr(self, field)
        if type(value) is not int or value < least:
            raise InputError(f"{field}: expected a whole number of at least {least}, found {value!r}")

    def _number(self, field: str) -> None:
        """Refuses what is not a finite number of at least 0; stores it as a float."""
        value = getattr(self, field)
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise InputError(f"{field}: expected a finite number of at least 0, found {value!r}")
        object.__setattr__(self, field, float(value))

    def to_json(self) -> str:
        """The settings as a JSON object; `from_json` reads it back to an equal config."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """Reads what `to_json` wrote.

        Raises:
            InputError: Not JSON, a field that is missing or unknown, or one that does not fit.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"expected JSON, found none ({error})") from None
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            found = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
            raise InputError(f"expected the fields {', '.join(sorted(known))}, found {found}")
        return cls(**values)

    def differences(self, other: "TrainConfig") -> list[str]:
        """Where another config differs, one `field: this, not that` for each."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name}: {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]
