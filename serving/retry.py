"""When a call is made again, how long is waited before it, and when a client has to leave it.

The rules are those of gRFC A6, and the loop is ours, since gRPC's own has limits that matter here (measured with grpcio
1.85). It cannot tell a full queue from a message over the size limit, which have one status, and sends the latter five
times; a message of more than 256 KiB it never repeats unless its buffer is raised; and it knows no servers but those
of its channel.
"""

import math
import random
import threading
from dataclasses import dataclass
from typing import Final

from detector.errors import LedgateError, QueueFull, SettingError, Unavailable

_LATER: Final = (Unavailable, QueueFull)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a client repeats a call that a server could not take: it was not ready, or its queue was full.

    Classifying twice does no harm but in a server's own books: where a connection breaks during an answer, its audit
    trail and score log hold the images twice. What a server refuses for good is never repeated, and nothing after the
    caller's deadline.

    Attributes:
        attempts: Most tries of a call at each address, the first included; 1 repeats nothing.
        initial_s: Longest pause before all addresses are tried again, in seconds. Each pause is drawn uniformly from
            zero to its longest, so that callers who were refused together do not come back together.
        multiplier: By which the longest pause grows each time, 1 to 100.
        max_s: The longest it grows to.
        budget: Tokens of the client. A failed try takes one, and while no more than half of them are left no call
            is repeated: a server in trouble is not asked several times as often as one that is well. None sets no
            bound.
        refill: Tokens that each answered call gives back.

    Raises:
        InputError: A number out of range.
    """

    attempts: int = 5
    initial_s: float = 0.1
    multiplier: float = 2.0
    max_s: float = 2.0
    budget: float | None = 100.0
    refill: float = 0.1

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SettingError(f"attempts: expected at least 1, found {self.attempts}")
        if self.multiplier > 100:
            raise SettingError(f"multiplier: expected at most 100, found {self.multiplier}")
        lowest = {"initial_s": 0.0, "multiplier": 1.0, "max_s": self.initial_s, "refill": 0.0, "budget": 0.0}
        if self.budget is None:
            del lowest["budget"]
        for name, low in lowest.items():
            value = getattr(self, name)
            if not low <= value < math.inf:  # NaN fails both
                raise SettingError(f"{name}: expected a number of at least {low:g}, found {value}")

    def pause_s(self, number: int) -> float:
        """Draws the pause before all addresses are tried again, the first of which has number 1."""
        growth = self.multiplier ** min(number - 1, 64)
        return random.uniform(0.0, min(self.initial_s * growth, self.max_s))  # noqa: S311  no secret


DEFAULT_RETRY: Final = Retry()


class Budget:
    """The tokens of one client, shared by all its calls and threads."""

    def __init__(self, retry: Retry) -> None:
        self._most = math.inf if retry.budget is None else retry.budget
        self._refill = retry.refill
        self._spent = 0.0
        self._lock = threading.Lock()

    def answered(self) -> None:
        """A call was answered."""
        with self._lock:
            self._spent = max(0.0, self._spent - self._refill)

    def failed(self) -> bool:
        """A try failed; returns whether it may be repeated."""
        with self._lock:
            self._spent = min(self._most, self._spent + 1.0)
            return self._spent < self._most / 2


def may_be_repeated(error: LedgateError) -> bool:
    """Whether the same call may succeed later: nobody was there to take it, or there was no room."""
    return isinstance(error, _LATER)
