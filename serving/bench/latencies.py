"""How long calls took, in constant memory: counts in bins whose widths grow with the latency."""

import math
from collections.abc import Iterable
from typing import Final, Self

# Percentiles are off by at most half a bin.
RELATIVE_ERROR: Final = 0.005
_RATIO: Final = (1 + RELATIVE_ERROR) ** 2
_SHORTEST_S: Final = 1e-6
_LONGEST_S: Final = 1e5
_PER_LOG: Final = 1 / math.log(_RATIO)
_BINS: Final = math.ceil(math.log(_LONGEST_S / _SHORTEST_S) * _PER_LOG)


class Latencies:
    """A histogram from a microsecond to a day, 2,540 bins; what lies outside is counted at its ends.

    Attributes:
        count: Latencies recorded.
        total_s: Their sum.
        max_s: The longest, exact.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self._counts = [0] * _BINS

    def record(self, seconds: float) -> None:
        """Counts one."""
        place = int(math.log(seconds / _SHORTEST_S) * _PER_LOG) if seconds > _SHORTEST_S else 0
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1
        self.total_s += seconds
        self.max_s = max(self.max_s, seconds)

    @property
    def mean_s(self) -> float | None:
        """The mean, exact; None of none."""
        return self.total_s / self.count if self.count else None

    def percentile_s(self, percent: float) -> float | None:
        """The shortest latency that so many percent of all do not exceed, in seconds; None of none.

        Right to within `RELATIVE_ERROR`, above a microsecond; 100 is the maximum, exact.
        """
        if not self.count:
            return None
        # Rounded first: 99.9 percent of 1,000 is 999, and not a little more.
        rank = max(1, math.ceil(round(percent / 100 * self.count, 6)))
        if rank >= self.count:
            return self.max_s
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(_SHORTEST_S * math.pow(_RATIO, place + 0.5), self.max_s)
        raise AssertionError("the bins hold all that was counted")

    @classmethod
    def merged(cls, parts: Iterable["Latencies"]) -> Self:
        """All of several as one."""
        whole = cls()
        for part in parts:
            whole.count += part.count
            whole.total_s += part.total_s
            whole.max_s = max(whole.max_s, part.max_s)
            whole._counts = [mine + theirs for mine, theirs in zip(whole._counts, part._counts, strict=True)]
        return whole
