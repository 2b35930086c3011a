"""Free memory, given back to the system.

What a call took is free once it is answered, or refused. glibc keeps it for whoever asks next, in an arena for every
few threads. An arena shrinks by itself only from its end, where something small that lives on holds all that is free
before it; and it does not even do that below twice the largest block that was ever freed, which may be 64 MiB. After a
burst of large messages hundreds of MiB would stay for good. Blocks of their own for large requests do not help, since
gRPC reads a message in pieces of some 64 KiB. So arenas end soon after what is in use, and a thread looks every few
seconds how much is free and still ours before that, and gives it back where it is much.
"""

import ctypes
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_LOOK_S: Final = 5.0
# What is worth giving back: less is asked for again by the next calls.
_MUCH_BYTES: Final = 64 << 20
_JOIN_S: Final = 1.0
# What `mallopt` is asked for, by the numbers of malloc.h: how much may be free at the end of an arena, and from which
# size on a block is the system's own, the largest that there is: glibc's own choice, once one of that size was freed.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_SETTINGS: Final = ((_M_TRIM_THRESHOLD, 4 << 20), (_M_MMAP_THRESHOLD, 32 << 20))
_STATM: Final = Path("/proc/self/statm")


class _MallInfo(ctypes.Structure):
    """What `mallinfo2` returns."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class Trimming:
    """A thread that gives free memory back, while it is entered; nothing where the C library is not a recent glibc.

    Args:
        look_s: Seconds between two looks.
    """

    def __init__(self, look_s: float = _LOOK_S) -> None:
        self._look_s = look_s
        self._libc = _glibc()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="trimming", daemon=True)

    def __enter__(self) -> Self:
        if self._libc is not None:
            for parameter, size in _SETTINGS:
                self._libc.mallopt(parameter, size)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._libc is not None:
            self._thread.join(_JOIN_S)

    def _work(self) -> None:
        """The thread."""
        least = self._trim()
        while not self._ending.wait(self._look_s):
            slack = self._slack()
            # What is still in use, in the midst of a burst, is found by the next look; to trim in vain is quick.
            least = min(least, self._trim() if slack > least + _MUCH_BYTES else slack)

    def _trim(self) -> int:
        """Gives back all that is free; returns what is left that is not in use by way of malloc."""
        self._libc.malloc_trim(0)
        return self._slack()

    def _slack(self) -> int:
        """Bytes in memory that nobody has from malloc: what is free, and all that never came from it, such as code."""
        found = self._libc.mallinfo2()
        resident = int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return int(resident - found.uordblks - found.hblkhd)


def _glibc() -> Any:
    """The C library where it can tell and trim, which glibc can from 2.33 on; else None."""
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "malloc_trim") and hasattr(libc, "mallinfo2") and _STATM.exists()):
        return None
    libc.malloc_trim.argtypes = [ctypes.c_size_t]
    libc.mallinfo2.restype = _MallInfo
    return libc
