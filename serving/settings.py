"""Options from the command line, the environment and a file, all under the same names.

`--max-batch 8`, `LEDGATE_MAX_BATCH=8` and `max_batch = 8` in a TOML file say the same, and the first of
these that says anything counts. The parser marks its defaults, so that an option that was given is told
from one that was not, even where both have the same value.
"""

import argparse
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from detector.errors import InputError, SettingError
from detector.files import read_file

PREFIX: Final = "LEDGATE_"
_CONFIG: Final = f"{PREFIX}CONFIG"
_MAX_BYTES: Final = 1 << 20
_WORDS: Final = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}
# What a type of the command line is in TOML; anything else is a string.
_TOML: Final[Mapping[Any, tuple[tuple[type, ...], str]]] = {
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
}
# Kubernetes sets LEDGATE_PORT to this in every pod beside a service called ledgate,
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
# and these besides; or LEDGATE_CARS_..., for a service called ledgate-cars.
_SERVICE_FACT: Final = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# What others read: the health check of the image, the training of networks, every command.
_ELSEWHERE: Final = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("ADDRESS", "HEALTH_CA", "HEALTH_CERT", "HEALTH_KEY"),
        *("BENCHMARK_BUNDLE", "CACHE", "CONFIG", "DATA", "DEBUG"),
    )
)
_ACTIONS: Final = "settings"


class _Default:
    """A default value that shows in `--help` like itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(self.value)


def add_settings(parser: argparse.ArgumentParser, *, but: Iterable[str] = ()) -> None:
    """Lets all options that a parser has so far be said in the environment and in a file too; adds `--config`.

    Args:
        parser: With its options; their destinations are the names.
        but: Destinations that are said on the command line only.
    """
    chosen = {action.dest: action for action in parser._actions if action.dest not in {"help", *but}}
    for action in chosen.values():
        # None, a switch that is off and an empty list are told from what was given as they are.
        if action.default not in (None, []) and action.default is not False:
            action.default = _Default(action.default)
    parser.add_argument("--config", type=Path, metavar="FILE",
        help="TOML file with the same options, as in max_batch = 8; so may the environment, as in LEDGATE_MAX_BATCH=8, "
        "which counts more, and the command line most; LEDGATE_CONFIG names the file too")  # fmt: skip
    parser.set_defaults(**{_ACTIONS: chosen})


def settle(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """The options as they are meant: from the command line, else the environment, else the file, else the default.

    Raises:
        InputError: A value that does not fit, or a key of the file that is no option.
    """
    actions: Mapping[str, argparse.Action] = getattr(options, _ACTIONS)
    path = options.config
    if path is None and _CONFIG in environment:
        path = Path(environment[_CONFIG])
    file = _load(path, actions)
    settled = argparse.Namespace(**vars(options) | {"config": path})
    for name, action in actions.items():
        given = getattr(options, name)
        variable = PREFIX + name.upper()
        if given is not action.default and given != []:
            continue
        if variable in environment and not _SERVICE_LINK.match(environment[variable]):
            given = _from_text(action, environment[variable], variable)
        elif name in file:
            given = _from_toml(action, file[name], f"{path}: {name}")
        setattr(settled, name, given.value if isinstance(given, _Default) else given)
    return settled


def unknown_variables(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> list[str]:
    """A line for each variable that is named like an option and is none: it may be mistyped, and is ignored.

    The file's keys are refused for that; the environment is shared with programs that ledgate knows nothing of.
    """
    variables = {name: PREFIX + name.upper() for name in getattr(options, _ACTIONS)}
    unknown = [
        name
        for name, value in environment.items()
        if name.startswith(PREFIX)
        and name not in _ELSEWHERE
        and name not in variables.values()
        and not _SERVICE_LINK.match(value)
        and not _SERVICE_FACT.fullmatch(name)
    ]
    return [
        f"{name}: expected the name of an option, found another, which is ignored"
        f"{_meant(name.removeprefix(PREFIX), variables)}"
        for name in sorted(unknown)
    ]


def _meant(name: str, options: Mapping[str, str]) -> str:
    """Which name may have been mistyped, as the end of a line.

    Args:
        name: As it was found, without a prefix, which would be alike in all.
        options: Names of options, and what each is called where it was found.
    """
    near = difflib.get_close_matches(name.lower().replace("-", "_"), options, 1)
    return f"; perhaps {options[near[0]]} is meant" if near else ""


def _load(path: Path | None, actions: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """The keys of the file, all of them names of options."""
    if path is None:
        return {}
    content = read_file(path, lambda why: InputError(f"{path}: {why}"), limit=_MAX_BYTES)
    try:
        file = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: expected TOML, found: {error}") from None
    for key in file:
        if key not in actions:
            meant = _meant(key, {name: name for name in actions})
            raise SettingError(f"{path}: {key}: expected the name of an option, found another key{meant}")
    return file


def _from_text(action: argparse.Action, text: str, where: str) -> Any:
    """A variable's value as the option's; several are separated as in PATH."""
    if _is_switch(action):
        if text.lower() not in _WORDS:
            raise SettingError(f"{where}: expected true or false, found {text!r}")
        return _WORDS[text.lower()]
    if _is_list(action):
        return [_convert(action, part, where) for part in text.split(os.pathsep) if part]
    return _convert(action, text, where)


def _from_toml(action: argparse.Action, value: Any, where: str) -> Any:
    """A file's value as the option's."""
    if _is_switch(action):
        if not isinstance(value, bool):
            raise SettingError(f"{where}: expected true or false, found {value!r}")
        return value
    if _is_list(action):
        if not isinstance(value, list):
            raise SettingError(f"{where}: expected a list, found {value!r}")
        return [_from_toml_one(action, each, where) for each in value]
    return _from_toml_one(action, value, where)


def _from_toml_one(action: argparse.Action, value: Any, where: str) -> Any:
    """One value, of the TOML type that says what the option wants."""
    wanted, kind = _TOML.get(action.type, ((str,), "a string"))
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise SettingError(f"{where}: expected {kind}, found {value!r}")
    return _convert(action, str(value), where)


def _convert(action: argparse.Action, text: str, where: str) -> Any:
    """What the command line would have made of the text."""
    convert: Any = action.type or str
    try:
        value = convert(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise SettingError(f"{where}: expected {getattr(convert, '__name__', 'a value')}, found {text!r}") from None
    if action.choices is not None and value not in action.choices:
        raise SettingError(f"{where}: expected one of {', '.join(map(str, action.choices))}, found {text!r}")
    return value


def _is_switch(action: argparse.Action) -> bool:
    """Whether the option has no value on the command line."""
    return action.nargs == 0


def _is_list(action: argparse.Action) -> bool:
    """Whether the option takes several values."""
    return action.nargs in ("*", "+") or isinstance(action, argparse._AppendAction)
