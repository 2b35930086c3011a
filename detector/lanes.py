"""Lanes: the threads that run members at once, however many callers there are.

ONNX Runtime's own threads share one run between them layer by layer, which costs 1.10 times the CPU of a run on
one thread (three ResNet-20, two cores, batches of 4 to 64). So work is divided by members and images instead: a
caller runs on its own thread, and lanes that nobody uses help it. Where all are in use nothing is divided, and nobody
waits for a thread that does the same work no sooner.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


class Lanes:
    """So many threads, callers' own included.

    Args:
        count: At least 1.

    Attributes:
        count: The same.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = threading.Lock()
        self._used = 0
        # A thread of it starts where it is first needed, and ends with this object.
        self._helpers = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="lane")

    @contextmanager
    def taken(self, most: int) -> Iterator[int]:
        """Takes the caller's own lane and those that are free, so many at most; yields how many these are."""
        with self._lock:
            lanes = max(1, min(most, self.count - self._used))
            self._used += lanes
        try:
            yield lanes
        finally:
            with self._lock:
                self._used -= lanes

    def each(self, works: Sequence[Callable[[], T]], lanes: int) -> list[T]:
        """Does all works on so many lanes that have been taken.

        Returns:
            What each work returned, in order.

        Raises:
            Exception: What a work has raised; those that had not begun by then are left out.
        """
        answers: dict[int, T] = {}
        left = deque(enumerate(works))

        def work() -> None:
            try:
                while (following := _first(left)) is not None:
                    number, one = following
                    answers[number] = one()
            except BaseException:
                left.clear()
                raise

        helping: list[Future[None]] = [self._helpers.submit(work) for _ in range(lanes - 1)]
        try:
            work()
        finally:
            wait(helping)  # all of them, since their lanes are given back together
        for helper in helping:
            helper.result()
        return [answers[number] for number in range(len(works))]


def _first(left: deque[T]) -> T | None:
    """Takes the first out; None where another lane has taken the last."""
    with suppress(IndexError):
        return left.popleft()
    return None
