"""Other detectors of attacked images, one library or method per file; `benchmarks.detectors` runs them beside ours.

Each file fits its detectors as their authors do, on images that ours may have or may not, and says which; and turns
their scores so that lower is more suspicious. They are run for comparison; nothing that ships imports them.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

from benchmarks.peers.detectors.detector import Case, Detector, Make

__all__ = ["MAKERS", "Case", "Detector", "Make", "maker", "missing"]

# what the names of its detectors begin with -> the module here, and what it imports that is not ours
MAKERS: Final[Mapping[str, tuple[str, str | None]]] = MappingProxyType({
    "pytorch-ood": ("pytorch_ood", "pytorch_ood"),
    "art": ("art_binary", "art"),
    "feature-squeezing": ("squeezing", None),
    "alibi-detect": ("alibi", "alibi_detect"),
})  # fmt: skip


def maker(name: str) -> Make:
    """What makes the detectors of that name.

    Raises:
        ImportError: Its library is not installed.
    """
    make: Make = import_module(f"{__name__}.{MAKERS[name][0]}").make
    return make


def missing(name: str) -> bool:
    """Whether its library is not installed."""
    library = MAKERS[name][1]
    return library is not None and find_spec(library) is None
