"""Runs on a timeline of their own: what is measured of a server that stalls, of a generator that is late, and when.

The server answers each call within a service time, except during one stall of S seconds, in which it answers nothing,
of D seconds in all. Of calls that arrive at random, a share of S / D meets it and waits for a time that is uniform
between 0 and S; so the latency at a percentile p above 1 - S / D is S - (1 - p) D, and the service time on top.
"""

import itertools
import signal

import numpy as np
import pytest

from detector.errors import InputError
from serving.bench.answers import Answers, decode_reply
from serving.bench.load import ClosedLoop, Load, OpenLoop, Plan
from serving.bench.loop import MOST_IN_FLIGHT, Run
from serving.bench.outcome import Outcome
from serving.bench.payloads import Payload
from serving.bench.report import warnings
from serving.bench.schedule import poisson
from serving.bench.unary import Done
from tests.serving.bench.conftest import CLASSES, Stalling, Timeline, pool

SERVICE, STALL, DURATION, RATE = 0.005, 6.0, 60.0, 200.0


def run(sender: Stalling, plan: Plan, **options: float) -> Run:
    answers = Answers(decode_reply, classes=CLASSES, check=False)
    timeline = sender.timeline
    return Run(
        sender, pool(), answers, plan, patience_s=options.get("patience_s", 60.0), clock=lambda: timeline.now,
        sleep=timeline.sleep,
    )  # fmt: skip


def stalled(load: Load, *, stall: tuple[float, float] = (30.0, 30.0 + STALL)) -> tuple[Outcome, Stalling]:
    sender = Stalling(Timeline(), service=SERVICE, stall=stall)
    return run(sender, Plan(warm_up_s=0.0, duration_s=DURATION)).measure(load), sender


@pytest.mark.parametrize("percent", [92.0, 95.0, 99.0])
def test_an_open_loop_meets_a_stall_as_often_as_it_arrives_in_it(percent: float) -> None:
    outcome, _ = stalled(OpenLoop(rate=RATE))
    expected = STALL - (1 - percent / 100) * DURATION + SERVICE
    # Four standard errors of a quantile of so many arrivals.
    error = 4 * DURATION * np.sqrt(0.1 * 0.9 / (RATE * DURATION))
    assert outcome.latency.percentile_s(percent) == pytest.approx(expected, abs=error)


def test_an_open_loop_outside_the_stall_sees_the_service_time() -> None:
    outcome, _ = stalled(OpenLoop(rate=RATE))
    assert outcome.latency.percentile_s(80) == pytest.approx(SERVICE, rel=0.006)


def test_an_open_loop_agrees_with_its_arrivals_one_by_one() -> None:
    outcome, sender = stalled(OpenLoop(rate=RATE, seed=3))
    arrivals = list(itertools.takewhile(lambda at: at < DURATION, poisson(RATE, 3)))
    waits = sorted(sender.answered_at(at) - at for at in arrivals)
    assert sender.arrived == pytest.approx(arrivals)
    assert outcome.answered == len(arrivals)
    for percent in (50.0, 91.0, 99.0, 99.9):
        exact = waits[int(np.ceil(percent / 100 * len(waits))) - 1]
        assert outcome.latency.percentile_s(percent) == pytest.approx(exact, rel=0.006)


def test_a_closed_loop_meets_a_stall_once_for_each_caller() -> None:
    """The omission that an open loop does not make: of thousands of calls, three were late."""
    outcome, _ = stalled(ClosedLoop(callers=3))
    assert outcome.latency.percentile_s(99) == pytest.approx(SERVICE, rel=0.006)
    assert outcome.latency.max_s == pytest.approx(STALL, abs=2 * SERVICE)
    assert outcome.answered > 10_000


def test_an_open_loop_counts_what_comes_through_and_not_what_arrives() -> None:
    """A stall to the end: all are answered in time, and none of the last six seconds' within the measured time."""
    outcome, _ = stalled(OpenLoop(rate=RATE), stall=(DURATION - STALL, DURATION + 1.0))
    assert outcome.unfinished == 0
    assert outcome.calls_per_s == pytest.approx(RATE * (1 - STALL / DURATION), rel=0.05)


def test_a_late_generator_says_so_and_its_lateness_is_latency() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    timeline = sender.timeline

    def oversleep(seconds: float) -> None:
        timeline.sleep(seconds + 0.05)

    answers = Answers(decode_reply, classes=CLASSES, check=False)
    plan = Plan(warm_up_s=0.0, duration_s=20.0)
    late = Run(sender, pool(), answers, plan, patience_s=60.0, clock=lambda: timeline.now, sleep=oversleep)
    load = OpenLoop(rate=1.0)
    outcome = late.measure(load)
    assert outcome.lags.percentile_s(50) == pytest.approx(0.05, rel=0.006)
    assert outcome.latency.percentile_s(50) == pytest.approx(0.05 + SERVICE, rel=0.006)
    (warning,) = warnings(outcome, load, held=late.held)
    assert warning.startswith("the generator was late to send (p50 ")


def test_a_generator_in_time_is_not_warned_of() -> None:
    load = OpenLoop(rate=RATE)
    outcome, _ = stalled(load)
    assert warnings(outcome, load, held=False) == []


def test_more_than_so_many_calls_are_not_in_flight_and_the_wait_is_latency() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 30.0))
    running = run(sender, Plan(warm_up_s=0.0, duration_s=20.0))
    load = OpenLoop(rate=1000.0)
    outcome = running.measure(load)
    assert outcome.in_flight_most == MOST_IN_FLIGHT
    assert running.held
    assert any("the server does not keep up" in warning for warning in warnings(outcome, load, held=running.held))
    # The last of 20,000 arrivals was to come at 20 s.
    assert outcome.latency.percentile_s(1) == pytest.approx(10.2, abs=0.3)


@pytest.mark.parametrize("load", [ClosedLoop(callers=4), OpenLoop(rate=100.0)], ids=["closed", "open"])
def test_a_number_of_calls_is_that_number(load: Load) -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    outcome = run(sender, Plan(warm_up_s=1.0, calls=50)).measure(load)
    assert (outcome.begun, outcome.answered) == (50, 50)
    assert len(sender.arrived) > 50  # with the warm-up's


def test_a_closed_loop_keeps_as_many_calls_in_flight_as_it_has_callers() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    outcome = run(sender, Plan(warm_up_s=1.0, duration_s=10.0)).measure(ClosedLoop(callers=7))
    assert outcome.in_flight_most == 7
    assert outcome.in_flight_mean == pytest.approx(7.0, rel=0.01)
    assert outcome.calls_per_s == pytest.approx(7 / SERVICE, rel=0.01)


def test_a_generator_that_is_far_behind_gives_up_and_says_so() -> None:
    """Each call takes it 10 ms to send, and 1,000 a second are asked of it: after 6 s it has sent some 600."""
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    send, timeline = sender.send, sender.timeline

    def slow(payload: Payload, done: Done) -> None:
        timeline.sleep(0.01)
        send(payload, done)

    sender.send = slow  # type: ignore[method-assign]
    running, load = run(sender, Plan(warm_up_s=0.0, duration_s=2.0), patience_s=4.0), OpenLoop(rate=1000.0)
    outcome = running.measure(load)
    assert outcome.begun == pytest.approx(600, abs=3)
    found = warnings(outcome, load, held=running.held, behind=running.behind)
    assert any(warning.startswith("not all arrivals were sent") for warning in found)


def test_a_slow_rate_does_not_go_on_beyond_the_end() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    outcome = run(sender, Plan(warm_up_s=0.0, duration_s=2.0)).measure(OpenLoop(rate=0.001))
    assert (outcome.begun, outcome.duration_s) == (0, 2.0)
    assert sender.timeline.now == pytest.approx(2.0)


def test_what_is_not_answered_is_not_waited_for_for_ever() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.5, 1e9))
    load = ClosedLoop(callers=3)
    outcome = run(sender, Plan(warm_up_s=0.0, duration_s=1.0), patience_s=5.0).measure(load)
    assert outcome.unfinished == 3
    assert sender.timeline.now == pytest.approx(5.5, abs=0.1)
    assert warnings(outcome, load, held=False) == ["3 calls had no answer when waiting for them ended"]


def test_an_interrupt_leaves_what_was_measured() -> None:
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))

    def interrupt() -> None:
        raise KeyboardInterrupt

    sender.timeline.at(4.0, interrupt)
    outcome = run(sender, Plan(warm_up_s=1.0, duration_s=100.0)).measure(OpenLoop(rate=RATE))
    assert outcome.interrupted
    assert outcome.duration_s == pytest.approx(3.0)
    assert outcome.answered == pytest.approx(3 * RATE, rel=0.2)


class InterruptedSending(Stalling):
    """The third call is interrupted by the keyboard after it has begun, and before anybody could know of it."""

    def send(self, payload: Payload, done: Done) -> None:
        if len(self.arrived) == 2:
            signal.raise_signal(signal.SIGINT)
        super().send(payload, done)


@pytest.mark.parametrize("load", [OpenLoop(rate=RATE), ClosedLoop(callers=4)], ids=["open", "closed"])
def test_an_interrupt_never_breaks_into_a_call(load: Load) -> None:
    sender = InterruptedSending(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    before = signal.getsignal(signal.SIGINT)
    outcome = run(sender, Plan(warm_up_s=0.0, duration_s=100.0)).measure(load)
    assert outcome.interrupted
    assert outcome.begun == len(sender.arrived) >= 3  # the third was sent whole
    assert sender.timeline.now < 1.0
    assert signal.getsignal(signal.SIGINT) is before


def test_progress_goes_from_0_to_1() -> None:
    told: list[float] = []
    sender = Stalling(Timeline(), service=SERVICE, stall=(0.0, 0.0))
    timeline, answers = sender.timeline, Answers(decode_reply, classes=CLASSES, check=False)
    plan = Plan(warm_up_s=1.0, duration_s=2.0)
    Run(
        sender, pool(), answers, plan, patience_s=1.0, progress=told.append, clock=lambda: timeline.now,
        sleep=timeline.sleep,
    ).measure(ClosedLoop(callers=1))  # fmt: skip
    assert told == sorted(told)
    assert told[0] < 0.02
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClosedLoop(callers=0), "callers: expected at least 1, found 0"),
        (lambda: OpenLoop(rate=0.0), "rate: expected a positive number of calls a second, found 0.0"),
        (lambda: OpenLoop(rate=float("nan")), "rate: expected a positive number of calls a second, found nan"),
        (Plan, "duration_s, calls: expected one of them, found neither"),
        (lambda: Plan(duration_s=1.0, calls=1), "duration_s, calls: expected one of them, found both"),
        (lambda: Plan(duration_s=0.0), "duration_s: expected a positive number of seconds, found 0.0"),
        (lambda: Plan(calls=0), "calls: expected at least 1, found 0"),
        (lambda: Plan(calls=1, warm_up_s=-1.0), "warm_up_s: expected a number of seconds, found -1.0"),
    ],
    ids=["no caller", "no rate", "nan", "no end", "two ends", "no time", "no call", "a negative warm-up"],
)
def test_numbers_out_of_range_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=message):
        make()
