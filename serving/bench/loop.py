"""One run: a load, driven against a server for as long as the plan says, and what came of it."""

import threading
import time
from collections.abc import Callable
from typing import Final

from serving.bench.answers import Answer, Answers
from serving.bench.interrupts import Interrupts
from serving.bench.load import Load, Plan
from serving.bench.outcome import Outcome
from serving.bench.payloads import Payload, Payloads
from serving.bench.tally import Tally
from serving.bench.unary import Sender

# Between two looks whether all calls have ended, and how much of the plan is done.
_LOOK_S: Final = 0.02
# In an open loop against a server that answers nothing, calls would pile up without end. At so many the next ones
# wait; their latency counts from when they were to arrive all the same.
MOST_IN_FLIGHT: Final = 10_000


class Run:
    """A run, to be `measure`d once.

    Args:
        sender: What brings requests to the server.
        payloads: The requests.
        answers: What reads the replies.
        plan: What is measured.
        patience_s: How long is waited for calls of which none ends, and how long after the end arrivals are still
            sent; longer than the calls' deadline.
        progress: Told now and then which share of the plan is done, 0 to 1.
        clock: Seconds, never going back.
        sleep: Lets seconds pass.

    Attributes:
        held: An arrival had to wait since too many calls were in flight.
        behind: So long after the end there were still arrivals to send; they never were, and are in no figure.
    """

    def __init__(
        self,
        sender: Sender,
        payloads: Payloads,
        answers: Answers,
        plan: Plan,
        *,
        patience_s: float,
        progress: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interrupts = Interrupts()
        self._sender = sender
        self._payloads = payloads
        self._answers = answers
        self._plan = plan
        self._patience_s = patience_s
        self._progress = progress
        self._clock = clock
        self._sleep = self._interrupts.letting(sleep)
        self._lock = threading.Lock()
        self._tally = Tally(plan.warm_up_s, plan.end_s)
        self._open = 0  # calls, until their callers have gone on
        self._over = False  # no more calls
        self._told = False  # nothing more is counted
        self._start_s = 0.0
        self.held = False
        self.behind = False

    def measure(self, load: Load) -> Outcome:
        """Drives the load to the end of the plan, or to an interrupt from the keyboard, and says what came of it."""
        self._start_s = self._clock()
        interrupted = False
        try:
            with self._interrupts:
                load.drive(self)
                self._wait()
        except KeyboardInterrupt:
            interrupted = True
        with self._lock:
            self._over = self._told = True
            return self._tally.outcome(self.now_s(), interrupted=interrupted)

    def now_s(self) -> float:
        """The time since the run began."""
        return self._clock() - self._start_s

    def sleep_until(self, at_s: float) -> None:
        """Waits until a time or the end of the plan, and while too many calls are in flight."""
        self._interrupts.check()
        if (left_s := min(at_s, self._plan.end_s) - self.now_s()) > 0:
            self._sleep(left_s)
        while self._tally.in_flight >= MOST_IN_FLIGHT:
            self.held = True
            self._sleep(_LOOK_S)
        self._tell()

    def begin(self, at_s: float, then: Callable[[], None] | None = None) -> bool:
        """Makes a call.

        Args:
            at_s: When it was to begin; latency counts from here.
            then: Called when it has ended.

        Returns:
            False, and there is no call, where the plan wants no more of them.
        """
        with self._lock:
            now_s = self.now_s()
            self.behind = self.behind or (at_s < self._plan.end_s and now_s > self._plan.end_s + self._patience_s)
            self._over = self._over or self.behind or at_s >= self._plan.end_s or self._tally.begun == self._plan.calls
            if self._over:
                return False
            payload = self._payloads.next()
            self._open += 1
            self._tally.begin(at_s, now_s)

        def done(code: str, reply: bytes | None, details: str) -> None:
            now_s = self.now_s()
            self._end(payload, at_s, now_s, self._read(payload, code, reply, details))
            if then is not None:
                then()
            with self._lock:
                self._open -= 1

        self._sender.send(payload, done)
        return True

    def _read(self, payload: Payload, code: str, reply: bytes | None, details: str) -> Answer:
        """What came of a call."""
        return Answer(code=code, details=details) if reply is None else self._answers.read(payload, reply)

    def _end(self, payload: Payload, at_s: float, now_s: float, answer: Answer) -> None:
        """A call has ended."""
        with self._lock:
            if not self._told:
                self._tally.end(payload.images, at_s, now_s, answer)

    def _wait(self) -> None:
        """Until all calls have ended, or for too long no call has begun or ended."""
        while self._open and self.now_s() <= self._tally.last_s + self._patience_s:
            self._sleep(_LOOK_S)
            self._tell()

    def _tell(self) -> None:
        """Tells the progress."""
        self._progress(self._plan.done(self.now_s(), self._tally.begun))
