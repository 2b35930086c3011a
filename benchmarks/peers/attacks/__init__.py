"""Other libraries' versions of our attacks, one library per file; `scripts/peers` installs them.

Each file turns one of our settings into the call of its library that does the same, and says where a library's
version is broken, or is not the same. They are run for comparison; nothing that ships imports them.
"""

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from benchmarks.peers.attacks.library import Broken, Counterpart, Library, LogPrediction, Settings

__all__ = ["LIBRARIES", "Broken", "Counterpart", "Library", "LogPrediction", "Settings", "missing", "opened"]

# distribution -> the module here, and its class
LIBRARIES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    "foolbox": ("foolbox", "Foolbox"),
    "torchattacks": ("torchattacks", "TorchAttacks"),
    "adversarial-robustness-toolbox": ("art", "ART"),
    "cleverhans": ("cleverhans", "CleverHans"),
    "adv-lib": ("adv_lib", "AdvLib"),
    "pyautoattack": ("pyautoattack", "PyAutoAttack"),
})  # fmt: skip


def opened(name: str) -> type[Library]:
    """The library of that name.

    Raises:
        ImportError: It is not installed.
    """
    module, kind = LIBRARIES[name]
    found: type[Library] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    return found


def missing() -> list[str]:
    """The libraries that are not installed."""
    return [name for name, (module, _) in LIBRARIES.items() if importlib.util.find_spec(module) is None]
