"""Which of several servers a call goes to: the one with the fewest calls of ours, by turns where they are equal.

A server that could not take a call is passed over for a while, longer each time, and then tried again. So a dead server
costs a call every two seconds one failed try, and one that comes back has its share a moment later.

gRPC's own balancing takes several addresses in one channel only where all of them are numbers of one family; with TLS
it takes them for the name of one server, which no certificate has; and a call that is repeated may go where it was
refused. One channel for each address has none of that, and leaves to gRPC what it does well: a name that stands for
several servers (see `serving.channels`).
"""

import math
import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final

_FIRST_REST_S: Final = 0.1
_LONGEST_REST_S: Final = 2.0


@dataclass(slots=True)
class _Server:
    """What is known of one: its calls under way, when it last failed, and how long it is passed over since then."""

    busy: int = 0
    failed_s: float = -math.inf
    rest_s: float = 0.0

    @property
    def until_s(self) -> float:
        """When it is no longer passed over."""
        return self.failed_s + self.rest_s


class Pool:
    """So many servers, by number.

    Args:
        size: How many there are.
        clock: Seconds, never going back.
    """

    def __init__(self, size: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._servers = [_Server() for _ in range(size)]
        self._turn = 0

    def take(self, *, tried: Set[int] = frozenset(), first: int | None = None) -> tuple[int, float]:
        """Chooses a server for a call, which must be given back.

        Args:
            tried: Numbers of those to be chosen last.
            first: The number of the one to be chosen before all others, unless it is one of those.

        Returns:
            Its number, and the time.
        """
        with self._lock:
            now_s = self._clock()
            number = min(range(len(self._servers)), key=lambda one: self._reluctance(one, tried, first, now_s))
            self._turn = number + 1
            self._servers[number].busy += 1
            return number, now_s

    def give_back(self, number: int, taken_s: float, *, well: bool | None) -> None:
        """A call is over.

        Args:
            number: Of its server.
            taken_s: When that was chosen.
            well: Whether the server could take the call; None where that is not known.
        """
        with self._lock:
            server = self._servers[number]
            server.busy -= 1
            # Of many calls that fail together one counts, and what was sent before says nothing new.
            if well is None or taken_s < server.failed_s:
                return
            if well:
                server.failed_s, server.rest_s = -math.inf, 0.0
            else:
                server.failed_s = self._clock()
                server.rest_s = min(max(2 * server.rest_s, _FIRST_REST_S), _LONGEST_REST_S)

    def others(self, tried: Set[int]) -> bool:
        """Whether there is a server beside those, and none that is passed over now."""
        with self._lock:
            now_s = self._clock()
            return any(server.until_s <= now_s for number, server in enumerate(self._servers) if number not in tried)

    def _reluctance(
        self, number: int, tried: Set[int], first: int | None, now_s: float
    ) -> tuple[bool, bool, float, int, int]:
        """The server that has the lowest is chosen."""
        server = self._servers[number]
        passed_over_until_s = max(server.until_s, now_s)
        turn = (number - self._turn) % len(self._servers)
        return number in tried, number != first, passed_over_until_s, server.busy, turn
