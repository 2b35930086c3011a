"""Recipes: settings that go together, by name; a flag of `ledgate train` overrides any one of them.

- `digits` is chosen for `digits`, see `training.config`.
- `paper` is what the paper's tables rest on, from its Section 4.2 and its authors' code: Adam at 1e-3, a
  tenth of that from epoch 120 and again from 160 of 180 (MNIST: 15 and 30 of 40), a penalty of 1e-4 on
  convolutions, batches of 64 (128 in adversarial training), each pixel's mean subtracted, shifts and flips
  for photographs only. (Their script for MNIST mirrors digits too; we do not.)
- `fast` takes a tenth of the epochs and loses some accuracy by it: Muon, see `training.muon`, under one cycle of the
  learning rate (Smith and Topin, "Super-Convergence", 2018).

In adversarial training all of them take the paper's batches of 128: the half that is not under attack is then as large
as a batch otherwise.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from detector.errors import SettingError

# Written digits and clothes in grey: they need fewer epochs, and a mirrored digit is no digit.
_GREY: Final = frozenset({"digits", "mnist", "fashion-mnist"})

_PAPER: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "optimiser": "adam",
        "learning_rate": 1e-3,
        "schedule": "steps",
        "batch_size": 64,
        "weight_decay": 1e-4,
        "normalise": "pixel",
        "keep": "best",
    }
)
_FAST: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "optimiser": "muon",
        "learning_rate": 0.01,
        "schedule": "one-cycle",
        "batch_size": 64,
        "keep": "best",
    }
)

RECIPES: Final = ("digits", "fast", "paper")


def default_recipe(dataset: str) -> str:
    """The recipe where none is asked for."""
    return "digits" if dataset == "digits" else "fast"


def recipe(name: str, dataset: str, *, adversarial: bool = False) -> dict[str, Any]:
    """The settings of a recipe for a data set, as fields of `TrainConfig`; those it leaves out have their defaults.

    Args:
        name: One of `RECIPES`.
        dataset: A data set's name.
        adversarial: Whether half of each batch is to be under attack; batches are then twice as large.

    Raises:
        InputError: No recipe of that name.
    """
    grey = dataset in _GREY
    batch = {"batch_size": 128} if adversarial else {}
    if name == "digits":
        return batch
    if name == "paper":
        milestones = (15 / 40, 30 / 40) if grey else (120 / 180, 160 / 180)
        return {
            **_PAPER,
            "epochs": 40 if grey else 180,
            "milestones": milestones,
            "augment": _augment(grey=grey),
            **batch,
        }
    if name == "fast":
        return {**_FAST, "epochs": 4 if grey else 18, "augment": _augment(grey=grey), **batch}
    raise SettingError(f"recipe: expected one of {', '.join(RECIPES)}, found {name!r}")


def _augment(*, grey: bool) -> str:
    """Photographs are shifted and mirrored, digits are left as they are."""
    return "none" if grey else "shift-flip"
