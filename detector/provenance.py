"""What made an artefact: command, time, versions, machine."""

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ("ledgate", "numpy", "scipy", "scikit-learn", "onnx", "onnxruntime-gpu", "onnxruntime")


def provenance(*packages: str, **notes: Any) -> dict[str, Any]:
    """Command, time (UTC), versions and kind of machine, as JSON; no path and no name of a host.

    Args:
        packages: More packages whose versions matter.
        notes: More to record, as JSON.
    """
    versions = {name: found for name in (*_PACKAGES, *packages) if (found := _version(name)) is not None}
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions},
        "machine": f"{platform.system()} {platform.machine()}",
        **notes,
    }


def _version(name: str) -> str | None:
    """An installed package's version, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
