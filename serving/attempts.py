"""One call, tried until it is answered, refused for good, or not worth another try: a loop without its transport.

    attempts = Attempts(...)
    while True:
        with attempts:
            return stubs[attempts.server].Classify(request, timeout=deadline.remaining_s())
        time.sleep(attempts.pause_s)

The `with` statement takes a server, and ends with a return, with an error, or with what is to be waited for.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc

from detector.errors import DeadlineExceeded, Internal, LedgateError, QueueFull, Unavailable
from serving.deadline import Deadline
from serving.pool import Pool
from serving.retry import Budget, Retry, may_be_repeated
from serving.status import error_of
from serving.unreachable import unreachable

# Errors by which a server says nothing of its own state.
_SAYS_NOTHING: Final = (DeadlineExceeded, Internal)


class Attempts:
    """The attempts of one call.

    Args:
        addresses: Of the servers.
        pool: The same servers, by number.
        retry: How often.
        budget: The client's.
        deadline: The caller's.
        tls: Whether the client speaks TLS.
        first: The number of the server to be tried before all others; None for whichever is free.
        hand_over: Asked when all queues were full, before a pause: whether somebody else will make this call, so that
            it ends here. Nothing is repeated then, and nothing is taken from the budget for it.

    Attributes:
        server: The number of the one that was tried last.
        pause_s: What is to be waited before the next try, after one that is worth it.
        handed_over: Whether somebody else makes this call now.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        pool: Pool,
        *,
        retry: Retry,
        budget: Budget,
        deadline: Deadline,
        tls: bool,
        first: int | None = None,
        hand_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._addresses = addresses
        self._pool = pool
        self._retry = retry
        self._budget = budget
        self._deadline = deadline
        self._tls = tls
        self._first = first
        self._hand_over = hand_over
        self._tried: set[int] = set()
        self._round = 1
        self._count = 0
        self._taken_s = 0.0
        self.server = 0
        self.pause_s = 0.0
        self.handed_over = False

    def __enter__(self) -> Self:
        self.server, self._taken_s = self._pool.take(tried=self._tried, first=self._first)
        self._count += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            self._budget.answered()
        if not isinstance(error, grpc.RpcError):  # an answer; or the caller has left, or has no time
            self._give_back(well=True if error is None else None)
            return False
        refusal = self._read(error)
        if not may_be_repeated(refusal):
            self._give_back(well=None if isinstance(refusal, _SAYS_NOTHING) else True)
            raise refusal from None
        self._give_back(well=False)
        if not self._goes_on(full=isinstance(refusal, QueueFull)):
            raise self._last(refusal) from None
        return True

    def _give_back(self, *, well: bool | None) -> None:
        """Gives the server back."""
        self._pool.give_back(self.server, self._taken_s, well=well)

    def _goes_on(self, *, full: bool) -> bool:
        """Whether there is another try, after `pause_s`: the other servers at once, then all of them anew."""
        self._tried.add(self.server)
        others = self._pool.others(self._tried)
        self.handed_over = full and not others and self._hand_over()
        if self.handed_over:
            return False
        may = self._budget.failed()
        if others:
            self.pause_s = 0.0
        else:
            self.pause_s = self._retry.pause_s(self._round)
            self._round += 1
            self._tried.clear()
        return may and self._round <= self._retry.attempts and self._deadline.allows(self.pause_s)

    def _read(self, call: Any) -> LedgateError:
        """The error of a call, which is the call too, as one of ours, with the server's words."""
        code, details, where = call.code(), call.details() or "no details", self._addresses[self.server]
        if code is grpc.StatusCode.UNAVAILABLE and (nobody := unreachable(where, details, tls=self._tls)):
            return nobody
        if code is grpc.StatusCode.CANCELLED:
            # Not by its caller, who does not come by here: a server that ends drops what it has not looked at yet.
            return Unavailable(f"{where}: expected an answer, found that the server has dropped the call")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and self._deadline.timeout_s is not None:
            return DeadlineExceeded(f"{where}: expected an answer within {self._deadline.timeout_s:g} s, found none")
        return error_of(code, details, call.trailing_metadata() or ())

    def _last(self, error: LedgateError) -> LedgateError:
        """The error that its caller meets: how often it came is part of it."""
        return error if self._count == 1 else type(error)(f"{error} (tried {self._count} times)")
