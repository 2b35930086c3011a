"""What is counted, by hand: times are handed in, and so is the CPU time."""

import pytest

from serving.bench.answers import Answer
from serving.bench.tally import Tally

OK = Answer(code="OK", judged=2, flagged=1)
FULL = Answer(code="RESOURCE_EXHAUSTED", details="full")


def test_a_call_belongs_to_the_measured_by_when_it_was_to_begin() -> None:
    tally = Tally(1.0, 2.0)
    for at_s in (0.5, 1.0, 1.5, 2.0):
        tally.begin(at_s, at_s)
        tally.end(1, at_s, at_s + 0.1, OK)
    outcome = tally.outcome(3.0, interrupted=False)
    assert (outcome.begun, outcome.answered, outcome.latency.count) == (2, 2, 2)


def test_what_goes_through_is_counted_by_when_it_ends() -> None:
    """One that began before ends within, and one that begins within ends too late."""
    tally = Tally(1.0, 3.0)
    for at_s, end_s in ((0.5, 1.5), (1.2, 2.0), (2.5, 3.5)):
        tally.begin(at_s, at_s)
        tally.end(4, at_s, end_s, OK)
    outcome = tally.outcome(4.0, interrupted=False)
    assert outcome.duration_s == 2.0
    assert outcome.calls_per_s == 2 / 2.0
    assert outcome.images_per_s == 8 / 2.0


def test_latency_counts_from_when_a_call_was_to_begin() -> None:
    tally = Tally(0.0, 10.0)
    tally.begin(1.0, 1.5)
    tally.end(1, 1.0, 2.0, OK)
    outcome = tally.outcome(10.0, interrupted=False)
    assert outcome.latency.max_s == 1.0
    assert outcome.lags.max_s == 0.5


def test_latencies_are_kept_by_size() -> None:
    tally = Tally(0.0, 10.0)
    for size, took_s in ((1, 0.1), (64, 2.0), (1, 0.2)):
        tally.begin(1.0, 1.0)
        tally.end(size, 1.0, 1.0 + took_s, OK)
    outcome = tally.outcome(10.0, interrupted=False)
    assert {size: each.count for size, each in outcome.latencies.items()} == {1: 2, 64: 1}
    assert outcome.latencies[1].max_s == pytest.approx(0.2)
    assert outcome.latency.count == 3


def test_errors_are_counted_by_code_and_have_no_latency() -> None:
    tally = Tally(0.0, 10.0)
    for answer in (OK, FULL, FULL, Answer(code="UNAVAILABLE", details="gone")):
        tally.begin(1.0, 1.0)
        tally.end(1, 1.0, 2.0, answer)
    outcome = tally.outcome(10.0, interrupted=False)
    assert outcome.errors == {"RESOURCE_EXHAUSTED": 2, "UNAVAILABLE": 1}
    assert outcome.details == {"RESOURCE_EXHAUSTED": "full", "UNAVAILABLE": "gone"}
    assert (outcome.answered, outcome.failed, outcome.latency.count) == (1, 3, 1)
    assert outcome.calls_per_s == 0.1


def test_calls_in_flight_are_a_mean_over_time_and_a_most() -> None:
    """One for a second, two for two, one for one, in four seconds."""
    tally = Tally(10.0, 14.0)
    for at_s in (10.0, 11.0):
        tally.begin(at_s, at_s)
    tally.end(1, 10.0, 13.0, OK)
    tally.end(1, 11.0, 14.0, OK)
    outcome = tally.outcome(15.0, interrupted=False)
    assert outcome.in_flight_mean == (1 + 2 * 2 + 1) / 4
    assert outcome.in_flight_most == 2


def test_what_is_in_flight_before_counts_from_the_beginning() -> None:
    tally = Tally(10.0, 14.0)
    tally.begin(2.0, 2.0)
    tally.end(1, 2.0, 20.0, OK)
    assert tally.outcome(20.0, interrupted=False).in_flight_mean == 1.0


def test_a_number_of_calls_ends_with_the_last_of_them() -> None:
    tally = Tally(1.0, float("inf"))
    for end_s in (2.0, 3.0):
        tally.begin(1.0, 1.0)
        tally.end(1, 1.0, end_s, OK)
    outcome = tally.outcome(9.0, interrupted=False)
    assert outcome.duration_s == 2.0
    assert outcome.calls_per_s == 1.0


def test_an_interrupt_ends_the_measured_time() -> None:
    tally = Tally(1.0, 100.0)
    tally.begin(1.0, 1.0)
    tally.end(1, 1.0, 2.0, OK)
    tally.begin(2.0, 2.0)
    outcome = tally.outcome(5.0, interrupted=True)
    assert outcome.duration_s == 4.0
    assert (outcome.begun, outcome.answered, outcome.unfinished) == (2, 1, 1)
    assert outcome.in_flight_mean == 1.0


def test_an_interrupt_during_the_warm_up_measures_nothing() -> None:
    tally = Tally(10.0, 20.0)
    tally.begin(1.0, 1.0)
    tally.end(1, 1.0, 2.0, OK)
    summary = tally.outcome(5.0, interrupted=True).summary()
    assert summary["duration_s"] == 0.0
    assert summary["calls_per_s"] is summary["latency_ms"]["p50"] is summary["client_cpu"]["us_per_call"] is None


def test_cpu_time_is_that_of_the_measured_time() -> None:
    spent = iter([5.0, 5.5, 6.0])  # asked for at events within it only
    tally = Tally(10.0, 14.0, cpu=lambda: next(spent))
    tally.begin(2.0, 2.0)
    tally.begin(11.0, 11.0)
    tally.end(1, 2.0, 12.0, OK)
    tally.end(1, 11.0, 13.0, OK)
    tally.begin(15.0, 15.0)
    outcome = tally.outcome(15.0, interrupted=False)
    assert outcome.cpu_s == 1.0
    assert outcome.cpu_us_per_call == 1e6 / 2
    assert outcome.cpu_cores == 1.0 / 4


def test_the_flagged_share_is_of_the_images_that_were_judged() -> None:
    tally = Tally(0.0, 10.0)
    for answer in (OK, Answer(code="OK", judged=6, flagged=0), Answer(code="OK")):
        tally.begin(1.0, 1.0)
        tally.end(3, 1.0, 2.0, answer)
    assert tally.outcome(10.0, interrupted=False).flagged_share == 1 / 8


def test_nothing_judged_has_no_share() -> None:
    tally = Tally(0.0, 10.0)
    tally.begin(1.0, 1.0)
    tally.end(3, 1.0, 2.0, Answer(code="OK"))
    assert tally.outcome(10.0, interrupted=False).flagged_share is None
