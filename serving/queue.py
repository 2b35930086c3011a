"""What waits for a model: first come, first served, bounded in images, taken in batches.

A request larger than a batch takes turns with the others: each batch has a part of it, and what is left
goes behind all that have come meanwhile. So a caller with one image waits for one part of a thousand, and
not for all of them.

A data structure and no more: it has no threads and no clock, the time is handed in. Its bound is in
images and not in requests, since images are what memory and a run cost.
"""

from collections import OrderedDict
from typing import Generic, Protocol, Self, TypeVar

from detector.errors import QueueFull


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

    def part(self, start: int, stop: int) -> Self:
        """Some of its images, to be run by themselves."""


T = TypeVar("T", bound=Waiting)


class RequestQueue(Generic[T]):
    """Requests in the order in which they came.

    Args:
        max_batch: Most images in a batch.
        batch_wait_s: How long the first request waits for others, in seconds.
        max_queue: Most images that wait. A request that is larger is let in too, else it could never
            be served: one at a time, where there is room for an image, and leaving the others their room.
    """

    def __init__(self, *, max_batch: int, batch_wait_s: float, max_queue: int) -> None:
        self._max_batch = max_batch
        self._batch_wait_s = batch_wait_s
        self._max_queue = max_queue
        # With how many of its images have been taken.
        self._requests: OrderedDict[T, int] = OrderedDict()
        self._images = 0
        # The one request that is larger than the bound.
        self._guest: T | None = None
        # The one request of which the last batch had a part: behind those that come while it runs.
        self._last: T | None = None

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
            QueueFull: There is no room.
        """
        counted = self._images - (0 if self._guest is None else self.left(self._guest))
        if count > self._max_queue:
            full = self._guest is not None or counted >= self._max_queue
        else:
            full = counted + count > self._max_queue
        if full:
            raise QueueFull(
                f"queue: expected room for {count} images, found {self._images} of {self._max_queue} waiting; "
                "try again later"
            )

    def put(self, request: T) -> None:
        """Lets a request in, behind all others.

        Raises:
            QueueFull: There is no room.
        """
        self.admit(request.count)
        self._requests[request] = 0
        self._images += request.count
        if request.count > self._max_queue:
            self._guest = request

    def remove(self, request: T) -> bool:
        """Takes a request out, or what is left of it; False where it no longer waits."""
        if request not in self._requests:
            return False
        self._images -= self.left(request)
        del self._requests[request]
        if request is self._guest:
            self._guest = None
        if request is self._last:
            self._last = None
        return True

    def left(self, request: T) -> int:
        """How many images of a request wait."""
        return request.count - self._requests[request] if request in self._requests else 0

    def clear(self) -> list[T]:
        """Takes out all that wait."""
        left = list(self._requests)
        self._requests.clear()
        self._images = 0
        self._guest = self._last = None
        return left

    def take(self, now_s: float, *, flush: bool = False) -> tuple[list[T], list[T]]:
        """Takes the next batch out, if it is time.

        Args:
            now_s: The time.
            flush: Do not wait for company.

        Returns:
            The batch, empty where it is not time, and the requests whose deadline has passed, which
            must not be run. The batch holds the first requests, as many as fit as a whole; of one
            that is larger than a batch it holds a part, as large as there is room.
        """
        expired = [request for request in self._requests if request.deadline_s <= now_s]
        for request in expired:
            self.remove(request)
        batch: list[T] = []
        if flush or self.wait_s(now_s) == 0:
            if self._last is not None:
                self._requests.move_to_end(self._last)
                self._last = None
            room = self._max_batch
            while self._requests and room:
                request = next(iter(self._requests))
                if request.count > self._max_batch:
                    batch.append(self._part(request, room))
                elif request.count <= room:
                    self.remove(request)
                    batch.append(request)
                else:
                    break
                room -= batch[-1].count
        return batch, expired

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a batch is due: 0 for now, None where nobody waits."""
        if not self._requests:
            return None
        if self._images >= self._max_batch:
            return 0.0
        first = next(iter(self._requests))
        return max(0.0, first.since_s + self._batch_wait_s - now_s)

    def _part(self, request: T, room: int) -> T:
        """Takes some images of a request; where more are left it filled the batch, and is the last to go on."""
        start = self._requests[request]
        stop = min(start + room, request.count)
        if stop == request.count:
            self.remove(request)
        else:
            self._requests[request] = stop
            self._images -= stop - start
            self._last = request
        return request.part(start, stop)
