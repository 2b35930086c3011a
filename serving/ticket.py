"""One request's place in the queue, and where its caller waits for the outcome."""

import math
import threading

from detector.errors import LedgateError
from detector.imageset import Images
from detector.verdicts import Verdicts


class Ticket:
    """A request on its way through the batcher.

    It is settled once, with verdicts or with an error: the first outcome counts, so that a caller
    whose time is up need not wait for a run that has begun.

    Args:
        images: (N, C, H, W), checked.
        members: Whether the caller wants the members' probabilities.
        request_id: The caller's name for the request, for the log.
        since_s: When it came, on the batcher's clock.
        deadline_s: When its caller's time is up, on the same clock.
    """

    __slots__ = ("_arrived", "_lock", "_outcome", "deadline_s", "images", "members", "request_id", "since_s")

    def __init__(
        self,
        images: Images,
        *,
        members: bool = False,
        request_id: str = "",
        since_s: float = 0.0,
        deadline_s: float = math.inf,
    ) -> None:
        self.images = images
        self.members = members
        self.request_id = request_id
        self.since_s = since_s
        self.deadline_s = deadline_s
        self._lock = threading.Lock()
        self._outcome: Verdicts | LedgateError | None = None
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
    def settled(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome is not None

    def settle(self, outcome: Verdicts | LedgateError) -> None:
        """Hands the outcome to the caller; without effect where there is one."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
        self._arrived.release()

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
