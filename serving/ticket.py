"""One request's place in the queue, and where its caller waits for the outcome."""

import math
import threading
from collections.abc import Callable
from contextvars import Context

from detector.errors import LedgateError
from detector.imageset import Images
from detector.verdicts import Verdicts


class Ticket:
    """A request on its way through the batcher.

    It is settled once, with verdicts or with an error: the first outcome counts, so that a caller
    whose time is up need not wait for a run that has begun.

    Args:
        images: (N, C, H, W), checked.
        caller: Among whom the model is shared; see `serving.queue`.
        members: Whether the caller wants the members' probabilities.
        request_id: The caller's name for the request, for the log.
        since_s: When it came, on the batcher's clock.
        deadline_s: When its caller's time is up, on the same clock.
        context: Of its call, for whoever looks on: traces find the call's span in it.
    """

    __slots__ = (
        "_arrived",
        "_lock",
        "_outcome",
        "_parts",
        "_then",
        "caller",
        "context",
        "deadline_s",
        "images",
        "members",
        "request_id",
        "since_s",
    )

    def __init__(
        self,
        images: Images,
        *,
        caller: str = "",
        members: bool = False,
        request_id: str = "",
        since_s: float = 0.0,
        deadline_s: float = math.inf,
        context: Context | None = None,
    ) -> None:
        self.images = images
        self.caller = caller
        self.members = members
        self.request_id = request_id
        self.since_s = since_s
        self.deadline_s = deadline_s
        self.context = context
        self._lock = threading.Lock()
        self._outcome: Verdicts | LedgateError | None = None
        # By the index of their first image.
        self._parts: dict[int, Verdicts] = {}
        self._then: Callable[[], None] | None = None
        # A lock that is held until the outcome is there: the cheapest thing to wait for.
        self._arrived = threading.Lock()
        self._arrived.acquire()

    def __repr__(self) -> str:
        """For the log; a request id is the caller's text, so it is quoted and cut."""
        return f"request {self.request_id[:80]!r} ({self.count} images)"

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def start(self) -> int:
        """Index of its first image among its caller's."""
        return 0

    @property
    def whole(self) -> "Ticket":
        """What its caller waits for."""
        return self

    @property
    def settled(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome is not None

    def settle(self, outcome: Verdicts | LedgateError) -> None:
        """Hands the outcome to the caller; without effect where there is one."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
            then, self._then = self._then, None  # which knows the ticket in turn: nothing else would free the two
        self._arrived.release()
        if then is not None:
            then()

    def then(self, callback: Callable[[], None]) -> None:
        """Calls back once there is an outcome, on the thread that settles; at once where there is one."""
        with self._lock:
            if self._outcome is None:
                self._then = callback
                return
        callback()

    def part(self, start: int, stop: int) -> "Ticket":
        """Some of its images as a ticket of its own, by which they are answered."""
        return _Part(self, start, stop)

    def gather(self, start: int, part: Verdicts) -> None:
        """Takes the verdicts of a part, that from an image on. The last one that comes settles the whole."""
        with self._lock:
            self._parts[start] = part
            whole = sum(map(len, self._parts.values())) == self.count
        if whole:
            self.settle(Verdicts.concatenate([self._parts[start] for start in sorted(self._parts)]))

    def wait(self) -> Verdicts:
        """Waits for the outcome.

        Raises:
            LedgateError: The outcome is that error.
        """
        with self._arrived:
            outcome = self._outcome
        if isinstance(outcome, Verdicts):
            return outcome
        assert outcome is not None
        raise outcome


class _Part(Ticket):
    """Some images of a request: answered with the others, or refused with them."""

    __slots__ = ("_start", "_whole")

    def __init__(self, whole: Ticket, start: int, stop: int) -> None:
        super().__init__(
            whole.images[start:stop],
            members=whole.members,
            request_id=whole.request_id,
            since_s=whole.since_s,
            deadline_s=whole.deadline_s,
        )
        self._start = start
        self._whole = whole

    def __repr__(self) -> str:
        return f"images {self._start} to {self._start + self.count - 1} of {self._whole}"

    @property
    def start(self) -> int:
        """Index of its first image among its caller's."""
        return self._start

    @property
    def whole(self) -> Ticket:
        """What its caller waits for."""
        return self._whole

    @property
    def settled(self) -> bool:
        """Whether its caller has an outcome."""
        return self._whole.settled

    def settle(self, outcome: Verdicts | LedgateError) -> None:
        """Hands verdicts to the whole; an error is that of the whole."""
        if isinstance(outcome, Verdicts):
            self._whole.gather(self._start, outcome)
        else:
            self._whole.settle(outcome)
