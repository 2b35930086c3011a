"""The attacks of `ledgate attack` and their options, as plain words: the settings themselves need torch.

A test holds the words to the settings. To offer one more attack is one more line in `ATTACKS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from detector.errors import SettingError

SQUARE: Final = "square"
# For an option that has no default.
NEEDED: Final = "needed"


@dataclass(frozen=True)
class Option:
    """An option that is a setting of some attacks."""

    type: Callable[[str], Any]
    metavar: str
    what: str


# Of the attacks that look for the smallest change.
_DESCENT: Final = {"confidence": 0.1, "search_steps": 1, "steps": 1000, "learning_rate": 0.01}

# attack -> its options, each with its default, or with what the default follows from
ATTACKS: Final[Mapping[str, Mapping[str, Any]]] = {
    "autoattack": {"eps": NEEDED},
    "bim": {"eps": NEEDED, "steps": 10, "step_size": "eps / steps"},
    "cw": {"c": NEEDED, **_DESCENT},
    "ead": {"c": NEEDED, **_DESCENT, "beta": 0.01},
    "fgsm": {"eps": NEEDED},
    "jsma": {"theta": NEEDED, "gamma": NEEDED},
    "jsma-pairs": {"theta": 1.0, "gamma": 0.1},
    "mim": {"eps": NEEDED, "steps": 10, "step_size": "eps / steps", "decay": 1.0},
    "pgd": {"eps": NEEDED, "steps": 10, "step_size": "eps / steps", "restarts": 1},
    SQUARE: {"eps": NEEDED, "queries": 5000, "p": 0.8},
}

OPTIONS: Final[Mapping[str, Option]] = {
    "eps": Option(float, "E", "largest change of a pixel, in units of [0, 1]"),
    "steps": Option(int, "N", "iterations"),
    "step_size": Option(float, "S", "how far each goes, in units of [0, 1]"),
    "restarts": Option(int, "N", "random starts, of which the best is kept"),
    "decay": Option(float, "D", "how much momentum is kept from step to step"),
    "c": Option(float, "C", "weight of the misclassification against the distance"),
    "confidence": Option(float, "K", "by how much the log probability of the wrong class has to be ahead"),
    "search_steps": Option(int, "N", "constants that are tried of each image, by bisection from c"),
    "learning_rate": Option(float, "RATE", "of the first iteration"),
    "beta": Option(float, "B", "weight of the L1 distance"),
    "theta": Option(float, "T", "change of a pixel in one step, in units of [0, 1]"),
    "gamma": Option(float, "SHARE", "largest share of the values that may change"),
    "queries": Option(int, "N", "most queries about each image, the one about the clean image included"),
    "p": Option(float, "SHARE", "share of the pixels that the first squares change; 0.05 is better against undefended "
                "networks for large photographs"),
}  # fmt: skip

# Where an option and its setting have different names.
_SETTINGS: Final = {"search_steps": "binary_search_steps"}


def flag(option: str) -> str:
    """As it is typed."""
    return f"--{option.replace('_', '-')}"


def explained(option: str) -> str:
    """What an option is, which attacks have it, and its defaults."""
    by_default: dict[Any, list[str]] = {}
    for attack, options in ATTACKS.items():
        if option in options:
            by_default.setdefault(options[option], []).append(attack)
    parts = [f"of {listed(attacks)}" + ("" if default == NEEDED else f", by default {_text(default)}")
             for default, attacks in by_default.items()]  # fmt: skip
    return "; ".join([OPTIONS[option].what, *parts])


def settings(attack: str, given: Mapping[str, Any], *, seed: int) -> Any:
    """The frozen settings of an attack, `training.attacks.Attack` or `detector.square.Square`.

    Args:
        attack: One of `ATTACKS`.
        given: The options that were given, of those in `OPTIONS`.
        seed: Of its random draws, if it has any.

    Raises:
        InputError: An option that the attack does not have, or lacks, or that is out of its range.
    """
    own = ATTACKS[attack]
    for option in given:
        if option not in own:
            having = listed([name for name, options in ATTACKS.items() if option in options])
            raise SettingError(f"{flag(option)}: expected for {having or 'no attack'} only, found with {attack}")
    for option, default in own.items():
        if default == NEEDED and option not in given:
            raise SettingError(f"{flag(option)}: expected with {attack}, which has no default for it, found none")
    kind = _kind(attack)
    values = {_SETTINGS.get(option, option): value for option, value in given.items()}
    if "seed" in {field.name for field in fields(kind)}:
        values["seed"] = seed
    return kind(**values)


def listed(names: list[str]) -> str:
    """As in `bim, mim and pgd`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _kind(attack: str) -> Any:
    """The class of its settings."""
    if attack == SQUARE:
        from detector.square import Square

        return Square
    from training.attacks import ATTACKS as BY_GRADIENT

    return BY_GRADIENT[attack]


def _text(default: Any) -> str:
    """A default as it is typed."""
    return default if isinstance(default, str) else f"{default:g}"
