"""What a training run is made from: the numbers that, with a seed, decide every weight.

The defaults are the recipe for `digits`: chosen on its validation and calibration images, over
several seeds. `training.recipes` has those for everything else.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from detector.errors import InputError, SettingError
from detector.prediction import MIN_MEMBERS
from training.augment import AUGMENTATIONS
from training.datasets import DATASETS
from training.networks import check_name

ADVERSARIES: Final = ("none", "fgsm", "pgd")
KEEPS: Final = ("best", "last")
NORMALISATIONS: Final = ("channel", "pixel")
OPTIMISERS: Final = ("adam", "muon", "sgd")
PRECISIONS: Final = ("float32", "bfloat16")
# Fields that came later than others: runs made before them were trained with their defaults.
_LATER: Final = frozenset({"image_size"})
SCHEDULES: Final = ("constant", "cosine", "one-cycle", "steps")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run.

    Attributes:
        dataset: Its name, see `training.datasets`.
        image_size: Of `folder`: the height and width that every image is stretched to; 0 is the images' own.
        arch: The members' architecture, see `training.networks`.
        members: K, at least 2; at most L - 1, which is checked once the data set is read.
        alpha: Weight of the entropy of the ensemble's prediction in Eq. (5), at least 0.
        beta: Weight of the log diversity in Eq. (5), at least 0. With alpha = beta = 0 members
            train independently: the paper's baseline. ADP_{2,0} and ADP_{2,0.5} are the paper's own.
        temperature: Logits are divided by it in the loss, and nowhere else (Appendix B.2); above 0.
        sampled_classes: The entropy is taken over the label and so many other classes, drawn anew for
            each image and step (Appendix B.2, for many classes); 0 is all of them.
        epochs: How often every training image is seen, at least 1.
        batch_size: Images in one step, over all processes, at least 2; what is left of an epoch's shuffle
            is left out of that epoch.
        optimiser: `adam`; `sgd` with Nesterov momentum 0.9; or `muon`, see `training.muon`.
        learning_rate: At its highest; one for all members, or one for each (Algorithm 1).
        schedule: How the learning rate goes, see `training.optimiser`.
        milestones: Of `steps`: the shares of the run after which the rate is a tenth of what it was.
        weight_decay: c of the penalty c |w|^2 on the weights of convolutions, at least 0.
        normalise: Subtract each pixel's own mean (`pixel`, the paper's), or subtract each channel's mean and
            divide by its standard deviation (`channel`); of the training images.
        augment: How training images are varied, see `training.augment`.
        growing: Whether images start at half their size and grow to all of it, see `training.growth`.
        adversarial: The attack that half of each batch is under (Table 4), its eps drawn from [0.01, 0.05].
        patience: A member whose validation loss has not fallen for so many epochs has converged and is
            frozen, while the others go on (Algorithm 1); 0 freezes none.
        sequential: One member at a time within each step: the same gradients from a K-th of the memory,
            for a third more work (Section 3.1).
        precision: What the networks compute in; weights stay float32 and the loss float64.
        compile: Whether `torch.compile` makes the networks faster, after a minute or more of its own.
        keep: The weights of the `best` epoch on the validation images, or of the `last`.
        seed: Of weights, shuffles and augmentation, at least 0. It does not move the splits.

    Raises:
        InputError: A field that does not fit; names the field, what was expected and what was found.
    """

    dataset: str = "digits"
    image_size: int = 0
    arch: str = "cnn"
    members: int = 3
    alpha: float = 2.0
    beta: float = 0.5
    temperature: float = 1.0
    sampled_classes: int = 0
    epochs: int = 40
    batch_size: int = 64
    optimiser: str = "adam"
    learning_rate: float | tuple[float, ...] = 2e-3
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    weight_decay: float = 0.0
    normalise: str = "channel"
    augment: str = "affine"
    growing: bool = False
    adversarial: str = "none"
    patience: int = 0
    sequential: bool = False
    precision: str = "float32"
    compile: bool = False
    keep: str = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        self._one_of("dataset", DATASETS)
        self._whole("image_size", 0)
        if self.image_size and self.dataset != "folder":
            raise SettingError(f"image_size: expected 0, since {self.dataset} has its own, found {self.image_size}")
        check_name(self.arch)
        self._whole("members", MIN_MEMBERS)
        for name in ("alpha", "beta", "weight_decay"):
            self._number(name)
        self._number("temperature", above_zero=True)
        self._whole("sampled_classes", 0)
        self._whole("epochs", 1)
        self._whole("batch_size", 2)
        self._rates()
        self._milestones()
        self._whole("patience", 0)
        self._whole("seed", 0)
        self._one_of("optimiser", OPTIMISERS)
        self._one_of("schedule", SCHEDULES)
        self._one_of("normalise", NORMALISATIONS)
        self._one_of("augment", AUGMENTATIONS)
        self._one_of("adversarial", ADVERSARIES)
        self._one_of("precision", PRECISIONS)
        self._one_of("keep", KEEPS)
        for name in ("growing", "sequential", "compile"):
            if type(getattr(self, name)) is not bool:
                raise SettingError(f"{name}: expected true or false, found {getattr(self, name)!r}")
        if self.optimiser == "muon" and self.weight_decay:
            raise SettingError(
                f"weight_decay: expected 0 with muon, whose kernels keep their norm, found {self.weight_decay}"
            )
        if self.growing and self.normalise == "pixel":
            raise SettingError("growing: expected normalise 'channel', found 'pixel', whose means are of one size")

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Each member's."""
        rate = self.learning_rate
        return rate if isinstance(rate, tuple) else (rate,) * self.members

    def _one_of(self, field: str, names: Iterable[str]) -> None:
        """Refuses an unknown name."""
        value = getattr(self, field)
        if value not in names:
            raise SettingError(f"{field}: expected one of {', '.join(sorted(names))}, found {value!r}")

    def _whole(self, field: str, least: int) -> None:
        """Refuses what is not an int, or too small; a bool is not a number."""
        value = getattr(self, field)
        if type(value) is not int or value < least:
            raise SettingError(f"{field}: expected a whole number of at least {least}, found {value!r}")

    def _number(self, field: str, *, above_zero: bool = False) -> None:
        """Refuses what is not a finite number of at least 0, or above it; stores it as a float."""
        object.__setattr__(self, field, _number(field, getattr(self, field), above_zero=above_zero))

    def _rates(self) -> None:
        """One learning rate, or K."""
        rate = self.learning_rate
        if not isinstance(rate, (list, tuple)):
            self._number("learning_rate", above_zero=True)
            return
        if len(rate) != self.members:
            raise SettingError(
                f"learning_rate: expected one, or one for each of {self.members} members, found {rate!r}"
            )
        rates = tuple(_number("learning_rate", value, above_zero=True) for value in rate)
        object.__setattr__(self, "learning_rate", rates)

    def _milestones(self) -> None:
        """Shares of the run, for `steps` and for nothing else."""
        found = self.milestones
        if not isinstance(found, (list, tuple)):
            raise SettingError(f"milestones: expected shares of the run between 0 and 1, found {found!r}")
        shares = tuple(_number("milestones", share) for share in found)
        if list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise SettingError(f"milestones: expected rising shares of the run between 0 and 1, found {found!r}")
        if bool(shares) != (self.schedule == "steps"):
            raise SettingError(f"milestones: expected with schedule 'steps', found {found!r} with {self.schedule!r}")
        object.__setattr__(self, "milestones", shares)

    def to_json(self) -> str:
        """The settings as a JSON object; `from_json` reads it back to an equal config."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """Reads what `to_json` wrote.

        Raises:
            InputError: Not JSON, or see `from_values`.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"expected JSON, found none ({error})") from None
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Any) -> "TrainConfig":
        """Reads settings by name; what runs made before it do not have is its default.

        Raises:
            InputError: Not a mapping, a field that is missing or unknown, or one that does not fit.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or not known - _LATER <= set(values) <= known:
            found = ", ".join(sorted(values)) if isinstance(values, Mapping) else type(values).__name__
            raise InputError(f"expected the fields {', '.join(sorted(known))}, found {found}")
        return cls(**values)

    def differences(self, other: "TrainConfig") -> list[str]:
        """Where another config differs, one `field: this, not that` for each."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name}: {mine[name]!r}, not {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]


def _number(name: str, value: Any, *, above_zero: bool = False) -> float:
    """A finite number of at least 0, or above it."""
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise SettingError(f"{name}: expected a finite number of at least 0, found {value!r}")
    if above_zero and value == 0:
        raise SettingError(f"{name}: expected a number above 0, found 0")
    return float(value)
