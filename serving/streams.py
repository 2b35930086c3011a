"""Who may have a stream open: so many at a time, and one that is idle gives way to one that comes.

Each holds two threads while it is open, so that their number is bounded. Without more, a caller who opens all of them
and says nothing would shut out everybody else.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from detector.errors import ResourceExhausted
from serving.stream import Stream

# So long a stream without a message may keep its place when others want it.
IDLE_S: Final = 10.0


class Streams:
    """Those that are open.

    Args:
        most: At a time.
        clock: Seconds, never going back: that of the streams.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[Stream] = set()

    def enter(self, stream: Stream) -> None:
        """Lets a stream in, which must `leave`. Where all places are taken, the one that has been idle longest ends.

        Raises:
            ResourceExhausted: All places are taken, and none of them by a stream that has been idle so long.
        """
        with self._lock:
            if len(self._open) >= self._most:
                self._make_room()
            self._open.add(stream)

    def leave(self, stream: Stream) -> None:
        """Gives its place back; without effect where it has given way."""
        with self._lock:
            self._open.discard(stream)

    def _make_room(self) -> None:
        """Ends the stream that has been idle longest."""
        now_s = self._clock()
        idlest = max(self._open, key=lambda stream: stream.idle_s(now_s))
        if idlest.idle_s(now_s) < IDLE_S:
            raise ResourceExhausted(f"streams: expected at most {self._most} open at a time, found {self._most} open")
        self._open.remove(idlest)
        idlest.end(
            ResourceExhausted(
                f"stream: expected a message within {IDLE_S:g} s while others wait for its place, found none"
            )
        )
