"""Something read from files, and read again when they change: certificates, tokens.

A change takes effect without a restart. One that cannot be read is written to the log, once, and
what was read before stays in force: a file half written must not lock everybody out.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from detector.errors import LedgateError

log = logging.getLogger(__name__)

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Fresh(Generic[T]):
    """The newest value that could be read.

    Args:
        paths: The files; links are followed, so that a link that is moved is a change.
        read: Reads the value.

    Raises:
        LedgateError: (what `read` raises) the files cannot be read the first time.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._value = read()

    def get(self) -> T:
        """The value, read again if a file has changed."""
        stamp = self._look()
        if stamp != self._stamp:
            with self._lock:
                self._renew(stamp)
        return self._value

    def _renew(self, stamp: _Stamp) -> None:
        """Reads again, unless another thread has done it."""
        if stamp == self._stamp:
            return
        try:
            value = self._read()
        except LedgateError as error:
            log.error("%s; what was read before stays in force", error)  # noqa: TRY400  the operator's file, not our bug
        else:
            if self._look() != stamp:  # changed while it was read, perhaps to something else: next time
                return
            self._value = value
            log.info("%s: read again", ", ".join(map(str, self._paths)))
        self._stamp = stamp

    def _look(self) -> _Stamp:
        """What tells one state of the files from another, without reading them."""
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Of one file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
