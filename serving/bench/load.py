"""How much is asked of a server: at what times calls begin, and how many of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from detector.errors import SettingError
from serving.bench.schedule import poisson


class Asking(Protocol):
    """What a load asks through; see `serving.bench.loop.Run`."""

    def now_s(self) -> float:
        """The time since the run began."""

    def sleep_until(self, at_s: float) -> None:
        """Waits, but not beyond the end of the plan."""

    def begin(self, at_s: float, then: Callable[[], None] | None = None) -> bool:
        """Makes a call that was to begin at this time; False where the plan wants no more of them."""


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """So many callers, each of which calls again when it has its answer.

    A slow server is asked less. The latency is what such a caller waits; it says little about callers who do not
    wait for one another, since during a stall there is at most one late call for each caller.

    Attributes:
        callers: At least 1.
    """

    callers: int = 32

    def __post_init__(self) -> None:
        if self.callers < 1:
            raise SettingError(f"callers: expected at least 1, found {self.callers}")

    def drive(self, asking: Asking) -> None:
        """Has every caller begin; each goes on by itself."""

        def again() -> None:
            asking.begin(asking.now_s(), again)

        for _ in range(self.callers):
            again()

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"closed": {"callers": self.callers}}

    def __str__(self) -> str:
        return f"closed loop, {self.callers} caller{'' if self.callers == 1 else 's'}"

    @property
    def meaning(self) -> str:
        """What its latencies are."""
        return ("from the sending of a call to its answer. A caller sends again when it has its answer, so a slow "
                "server is asked less; --rate shows what callers meet who do not wait for one another")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OpenLoop:
    """Arrivals at a rate, at random, whatever the server does: a Poisson process.

    A call's latency counts from when it was to arrive, also where the generator was late to send it, so that a stall
    is met by all who would have come during it.

    Attributes:
        rate: Calls a second, on average.
        seed: Of the arrival times.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise SettingError(f"rate: expected a positive number of calls a second, found {self.rate}")

    def drive(self, asking: Asking) -> None:
        """Makes the calls at their times."""
        for at_s in poisson(self.rate, self.seed):
            asking.sleep_until(at_s)
            if not asking.begin(at_s):
                return

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"open": {"rate_per_s": self.rate, "seed": self.seed}}

    def __str__(self) -> str:
        return f"open loop, {self.rate:g} calls a second at random (seed {self.seed})"

    @property
    def meaning(self) -> str:
        """What its latencies are."""
        return "from the time at which a call was to arrive, also where the generator sent it late, to its answer"


Load = ClosedLoop | OpenLoop


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured of a load.

    Attributes:
        warm_up_s: Seconds of the same load before.
        duration_s: Seconds that are measured; None where it is a number of calls.
        calls: Calls that are measured; None where it is a duration.

    Raises:
        InputError: Both or neither of them, or one out of range.
    """

    warm_up_s: float = 2.0
    duration_s: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.warm_up_s < math.inf:
            raise SettingError(f"warm_up_s: expected a number of seconds, found {self.warm_up_s}")
        if (self.duration_s is None) is (self.calls is None):
            found = "neither" if self.calls is None else "both"
            raise SettingError(f"duration_s, calls: expected one of them, found {found}")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise SettingError(f"duration_s: expected a positive number of seconds, found {self.duration_s}")
        if self.calls is not None and self.calls < 1:
            raise SettingError(f"calls: expected at least 1, found {self.calls}")

    @property
    def end_s(self) -> float:
        """When measured calls begin no more, from the start of the run; infinity where their number says."""
        return math.inf if self.duration_s is None else self.warm_up_s + self.duration_s

    def done(self, at_s: float, calls: int) -> float:
        """Which share of it is done, 0 to 1, at a time and with so many measured calls begun."""
        if self.calls is not None:
            return min(1.0, calls / self.calls)
        return min(1.0, at_s / self.end_s)
