"""What was measured, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from serving.bench.latencies import RELATIVE_ERROR, Latencies

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The figures of a run.

    Attributes:
        duration_s: Measured seconds.
        begun: Measured calls: those that were to begin in this time.
        answered: Of these, how many got an answer.
        errors: Of the others that ended, how many, by gRPC's code.
        details: The words of the first error of each code.
        ended: Calls that ended in the measured time, well or not, whenever they began.
        calls_per_s: Answers in the measured time, a second; None where no time was measured.
        images_per_s: Images of these answers.
        latencies: Of the answered calls, by images of a call. Those that failed have no latency here.
        lags: By how much calls began later than they were to.
        in_flight_mean: Calls under way, over the measured time.
        in_flight_most: The most at a time.
        cpu_s: CPU time of the generator's process in the measured time.
        judged: Images of which the answers said whether they are flagged.
        flagged: Images that are.
        interrupted: Whether the run was ended before its time.
    """

    duration_s: float
    begun: int
    answered: int
    errors: Mapping[str, int]
    details: Mapping[str, str]
    ended: int
    calls_per_s: float | None
    images_per_s: float | None
    latencies: Mapping[int, Latencies]
    lags: Latencies
    in_flight_mean: float | None
    in_flight_most: int
    cpu_s: float
    judged: int
    flagged: int
    interrupted: bool

    @property
    def failed(self) -> int:
        """Measured calls that ended with an error."""
        return sum(self.errors.values())

    @property
    def unfinished(self) -> int:
        """Measured calls of which nothing was heard."""
        return self.begun - self.answered - self.failed

    @property
    def latency(self) -> Latencies:
        """Of all answered calls."""
        return Latencies.merged(self.latencies.values())

    @property
    def flagged_share(self) -> float | None:
        """Of the images that were judged; None where none were, as without a calibration."""
        return self.flagged / self.judged if self.judged else None

    @property
    def cpu_us_per_call(self) -> float | None:
        """CPU microseconds of the generator for each call that ended."""
        return 1e6 * self.cpu_s / self.ended if self.ended else None

    @property
    def cpu_cores(self) -> float | None:
        """CPU time of the generator by the time that passed."""
        return self.cpu_s / self.duration_s if self.duration_s else None

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "duration_s": self.duration_s,
            "interrupted": self.interrupted,
            "calls": {
                "begun": self.begun,
                "answered": self.answered,
                "failed": self.failed,
                "unfinished": self.unfinished,
            },
            "calls_per_s": self.calls_per_s,
            "images_per_s": self.images_per_s,
            "latency_ms": milliseconds(self.latency),
            "latency_ms_by_batch": {str(size): milliseconds(each) for size, each in self.latencies.items()},
            "latency_relative_error": RELATIVE_ERROR,
            "lag_ms": milliseconds(self.lags),
            "errors": dict(self.errors),
            "error_details": dict(self.details),
            "in_flight": {"mean": self.in_flight_mean, "most": self.in_flight_most},
            "flagged": {"images": self.flagged, "of": self.judged, "share": self.flagged_share},
            "client_cpu": {"seconds": self.cpu_s, "us_per_call": self.cpu_us_per_call, "cores": self.cpu_cores},
        }


def milliseconds(latencies: Latencies) -> dict[str, float | None]:
    """The percentiles, the mean and how many they are of."""
    found = {name: latencies.percentile_s(percent) for name, percent in PERCENTILES.items()}
    found["mean"] = latencies.mean_s
    return {**{name: None if value is None else 1e3 * value for name, value in found.items()}, "n": latencies.count}
