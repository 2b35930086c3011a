"""What waits for a model: first come, first served, bounded in images, taken in batches.

A data structure and no more: it has no threads and no clock, the time is handed in. Its bound is in
images and not in requests, since images are what memory and a run cost.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from detector.errors import ResourceExhausted


class Waiting(Protocol):
    """A request in the queue, known by its identity.

    Attributes:
        count: Its images.
        since_s: When it came, on the clock of whoever calls the queue.
        deadline_s: When its caller's time is up, on the same clock; infinity for never.
    """

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def since_s(self) -> float:
        """Time of arrival."""

    @property
    def deadline_s(self) -> float:
        """Time at which it is worth nothing."""


T = TypeVar("T", bound=Waiting)


class RequestQueue(Generic[T]):
    """Requests in the order in which they came.

    Args:
        max_batch: Most images in a batch. A single request may exceed it; then it is the batch.
        batch_wait_s: How long the first request waits for others, in seconds.
        max_queue: Most images that wait. Whatever its size, a request that finds nobody waiting is
            let in: otherwise it could never be served.
    """

    def __init__(self, *, max_batch: int, batch_wait_s: float, max_queue: int) -> None:
        self._max_batch = max_batch
        self._batch_wait_s = batch_wait_s
        self._max_queue = max_queue
        self._requests: OrderedDict[T, None] = OrderedDict()
        self._images = 0

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._requests)

    @property
    def images(self) -> int:
        """Images that wait."""
        return self._images

    def admit(self, count: int) -> None:
        """Says whether a request of so many images would be let in now.

        Raises:
            ResourceExhausted: There is no room.
        """
        if self._requests and self._images + count > self._max_queue:
            raise ResourceExhausted(
                f"queue: expected room for {count} images, found {self._images} of {self._max_queue} waiting; "
                "try again later"
            )

    def put(self, request: T) -> None:
        """Lets a request in, behind all others.

        Raises:
            ResourceExhausted: There is no room.
        """
        self.admit(request.count)
        self._requests[request] = None
        self._images += request.count

    def remove(self, request: T) -> bool:
        """Takes a request out whose caller has left; False where it no longer waits."""
        if request not in self._requests:
            return False
        del self._requests[request]
        self._images -= request.count
        return True

    def clear(self) -> list[T]:
        """Takes out all that wait."""
        left = list(self._requests)
        self._requests.clear()
        self._images = 0
        return left

    def take(self, now_s: float, *, flush: bool = False) -> tuple[list[T], list[T]]:
        """Takes the next batch out, if it is time.

        Args:
            now_s: The time.
            flush: Do not wait for company.

        Returns:
            The batch, empty where it is not time, and the requests whose deadline has passed, which
            must not be run. The batch holds the first requests, as many as fit as a whole.
        """
        expired = [request for request in self._requests if request.deadline_s <= now_s]
        for request in expired:
            self.remove(request)
        batch: list[T] = []
        if flush or self.wait_s(now_s) == 0:
            room = self._max_batch
            while self._requests:
                request = next(iter(self._requests))
                if batch and request.count > room:
                    break
                self.remove(request)
                batch.append(request)
                room -= request.count
        return batch, expired

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a batch is due: 0 for now, None where nobody waits."""
        if not self._requests:
            return None
        if self._images >= self._max_batch:
            return 0.0
        first = next(iter(self._requests))
        return max(0.0, first.since_s + self._batch_wait_s - now_s)
