"""The name that a caller gives a request: told back in the reply, and kept in the log, in spans and in the audit trail.

It is the one text of a request that is kept, so it is bounded where it comes in, and nobody behind has to.
"""

from typing import Final

from detector.errors import InputError

# What people use is far shorter, a UUID or a trace's id for example; and even of four bytes each it fits into metadata.
MAX_CHARACTERS: Final = 256


def check_request_id(request_id: str, where: str = "request_id") -> None:
    """Raises InputError where it is too long; names the field."""
    if len(request_id) > MAX_CHARACTERS:
        raise InputError(f"{where}: expected at most {MAX_CHARACTERS} characters, found {len(request_id)}")
