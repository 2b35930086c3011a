"""ledgate's packages have plain names; this finds out when somebody else's took their place.

A folder `training/` beside a user's script, or another distribution's `serving`, would be imported
instead of ours and fail far from the cause.
"""

import importlib.util
from pathlib import Path
from typing import Final

ROOMS: Final = ("detector", "protos", "serving", "training")


def check_rooms() -> None:
    """Raises ImportError naming the package that shadows one of ours."""
    home = Path(__file__).resolve().parents[1]
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parents[1]
        if found != home:
            where = "nothing" if spec is None else (spec.origin or str(list(spec.submodule_search_locations or [])))
            raise ImportError(
                f"the package '{room}' is expected in {home} and found at {where}, which shadows ledgate's own; "
                "rename that package, or take its folder out of the import path"
            )
