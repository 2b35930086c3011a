"""Counts while calls begin and end. It has no clock and no threads: times are handed in, one call at a time."""

import math
import time
from collections import Counter
from collections.abc import Callable

from serving.bench.answers import OK, Answer
from serving.bench.latencies import Latencies
from serving.bench.outcome import Outcome


class Tally:
    """What has been counted between two times.

    A call belongs to the measured ones by when it was to begin. What goes through a server in a second is counted by
    when calls ended, whenever they began: else a server that falls behind would seem to keep up.

    Args:
        begin_s: When measuring begins.
        end_s: When it ends; infinity where the end of the last measured call is the end.
        cpu: Seconds of CPU time of this process.

    Attributes:
        in_flight: Calls that have begun and not ended.
        begun: Measured calls so far.
        last_s: When a call began or ended last.
    """

    def __init__(self, begin_s: float, end_s: float, cpu: Callable[[], float] = time.process_time) -> None:
        self.in_flight = 0
        self.begun = 0
        self.last_s = 0.0
        self._begin_s = begin_s
        self._end_s = end_s
        self._cpu = cpu
        self._cpu_s: tuple[float, float] | None = None
        self._calls_s = 0.0  # the sum over calls of their time in flight
        self._most = 0
        self._ended = 0
        self._ended_ok = 0
        self._ended_images = 0
        self._codes: Counter[str] = Counter()
        self._details: dict[str, str] = {}
        self._latencies: dict[int, Latencies] = {}
        self._lags = Latencies()
        self._judged = 0
        self._flagged = 0

    def measures(self, at_s: float) -> bool:
        """Whether a call that is to begin then is one of the measured."""
        return self._begin_s <= at_s < self._end_s

    def begin(self, at_s: float, now_s: float) -> None:
        """A call that was to begin at one time begins at another."""
        self._move(now_s, 1)
        if self.measures(at_s):
            self.begun += 1
            self._lags.record(now_s - at_s)

    def end(self, images: int, at_s: float, now_s: float, answer: Answer) -> None:
        """A call of so many images, which was to begin at a time, ends."""
        self._move(now_s, -1)
        ok = answer.code == OK
        if self._begin_s <= now_s <= self._end_s:
            self._ended += 1
            self._ended_ok += ok
            self._ended_images += images if ok else 0
        if not self.measures(at_s):
            return
        self._codes[answer.code] += 1
        if ok:
            self._latencies.setdefault(images, Latencies()).record(now_s - at_s)
            self._judged += answer.judged
            self._flagged += answer.flagged
        else:
            self._details.setdefault(answer.code, answer.details)

    def outcome(self, now_s: float, *, interrupted: bool) -> Outcome:
        """What has been measured; the calls in flight are left out of it."""
        timed = interrupted or math.isfinite(self._end_s)
        end_s = min(self._end_s, now_s) if timed else self.last_s
        self._move(now_s, 0)
        duration_s = max(0.0, end_s - self._begin_s)
        first_s, last_s = self._cpu_s or (0.0, 0.0)
        errors = {code: count for code, count in sorted(self._codes.items()) if code != OK}
        return Outcome(
            duration_s=duration_s,
            begun=self.begun,
            answered=self._codes[OK],
            errors=errors,
            details=dict(self._details),
            ended=self._ended,
            calls_per_s=self._ended_ok / duration_s if duration_s else None,
            images_per_s=self._ended_images / duration_s if duration_s else None,
            latencies=dict(sorted(self._latencies.items())),
            lags=self._lags,
            in_flight_mean=self._calls_s / duration_s if duration_s else None,
            in_flight_most=self._most,
            cpu_s=last_s - first_s,
            judged=self._judged,
            flagged=self._flagged,
            interrupted=interrupted,
        )

    def _move(self, now_s: float, step: int) -> None:
        """One call more or less in flight. Threads may be late to say so: time does not go back for that."""
        now_s = max(now_s, self.last_s)
        inside_s = min(now_s, self._end_s) - max(self.last_s, self._begin_s)
        self._calls_s += self.in_flight * max(0.0, inside_s)
        self.last_s = now_s
        self.in_flight += step
        if self._begin_s <= now_s <= self._end_s:
            self._most = max(self._most, self.in_flight)
            cpu_s = self._cpu()
            self._cpu_s = (cpu_s if self._cpu_s is None else self._cpu_s[0], cpu_s)
