"""What waits for a model: each caller's requests in the order in which they came, taken in batches, bounded in images.

Callers share the model evenly, in images: the next request is that of the caller who has had least since it began to
wait (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). So somebody with one image waits for the batches
that run already, however many images others have waiting, in however many requests. A request larger than a batch is
taken in parts, and what is left goes behind all that its caller has asked for meanwhile: callers may share a
connection.

A data structure and no more: it has no threads and no clock, the time is handed in. Its bound is in
images and not in requests, since images are what memory and a run cost.
"""

import heapq
import itertools
from collections import OrderedDict
from typing import Generic, Protocol, Self, TypeVar

from detector.errors import QueueFull


class Waiting(Protocol):
    """A request in the queue, known by its identity.

    Attributes:
        count: Its images.
        caller: Whose it is.
        since_s: When it came, on the clock of whoever calls the queue.
        deadline_s: When its caller's time is up, on the same clock; infinity for never.
    """

    @property
    def count(self) -> int:
        """Number of images."""

    @property
    def caller(self) -> str:
        """Among whom the model is shared."""

    @property
    def since_s(self) -> float:
        """Time of arrival."""

    @property
    def deadline_s(self) -> float:
        """Time at which it is worth nothing."""

    def part(self, start: int, stop: int) -> Self:
        """Some of its images, to be run by themselves."""


T = TypeVar("T", bound=Waiting)


class Caller(Generic[T]):
    """What one caller has waiting.

    Attributes:
        requests: In the order in which they are taken, with how many images of each have been.
        turn: When the next of them is taken, on a clock that counts images.
        number: Of its place among those whose turn is the same.
        last: The request of which the last batch had a part: behind those that come while it runs.
    """

    __slots__ = ("last", "number", "requests", "turn")

    def __init__(self) -> None:
        self.requests: OrderedDict[T, int] = OrderedDict()
        self.turn = self.number = 0
        self.last: T | None = None

    def first(self) -> T:
        """The next one."""
        if self.last is not None:
            self.requests.move_to_end(self.last)
            self.last = None
        return next(iter(self.requests))


class RequestQueue(Generic[T]):
    """Requests that wait for one model.

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
        # In the order in which they came.
        self._requests: dict[T, Caller[T]] = {}
        self._images = 0
        # Those who wait, and those who have had more than others while these waited.
        self._callers: dict[str, Caller[T]] = {}
        # A heap of whose turn it is when; an entry is stale where its number is no longer the caller's.
        self._turns: list[tuple[int, int, Caller[T]]] = []
        self._numbers = itertools.count()
        self._turn = 0
        # The one request that is larger than the bound.
        self._guest: T | None = None

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._requests)

    @property
    def images(self) -> int:
        """Images that wait."""
        return self._images

    def admit(self, count: int, *, spare: int = 0) -> None:
        """Says whether a request of so many images would be let in now.

        Args:
            count: Its images.
            spare: How many places it leaves to others.

        Raises:
            QueueFull: There is no room.
        """
        counted = self._images - (0 if self._guest is None else self.left(self._guest))
        room = self._max_queue - spare
        as_guest = count > room > counted and self._guest is None
        if counted + count > room and not as_guest:
            raise QueueFull(
                f"queue: expected room for {count} images, found {self._images} of {self._max_queue} waiting; "
                "try again later"
            )

    def put(self, request: T) -> None:
        """Lets a request in, behind all others of its caller.

        Raises:
            QueueFull: There is no room.
        """
        self.admit(request.count)
        if not self._requests:  # where nobody waits, nobody has had more than others
            self._callers.clear()
            self._turns.clear()
        name = self._name(request)
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = Caller()
        if not caller.requests:
            caller.turn = max(caller.turn, self._turn)
            self._queue(caller)
        caller.requests[request] = 0
        self._requests[request] = caller
        self._images += request.count
        if request.count > self._max_queue:
            self._guest = request

    def remove(self, request: T) -> bool:
        """Takes a request out, or what is left of it; False where it no longer waits."""
        if request not in self._requests:
            return False
        self._images -= self.left(request)
        caller = self._requests.pop(request)
        del caller.requests[request]
        if request is self._guest:
            self._guest = None
        if request is caller.last:
            caller.last = None
        return True

    def left(self, request: T) -> int:
        """How many images of a request wait."""
        return request.count - self._requests[request].requests[request] if request in self._requests else 0

    def clear(self) -> list[T]:
        """Takes out all that wait."""
        left = list(self._requests)
        for request in left:
            self.remove(request)
        return left

    def take(self, now_s: float, *, flush: bool = False) -> tuple[list[T], list[T]]:
        """Takes the next batch out, if it is time.

        Args:
            now_s: The time.
            flush: Do not wait for company.

        Returns:
            The batch, empty where it is not time, and the requests whose deadline has passed, which
            must not be run. The batch holds the requests whose turn is next, as many as fit as a whole; of one
            that is larger than a batch it holds a part, as large as there is room.
        """
        expired = [request for request in self._requests if request.deadline_s <= now_s]
        for request in expired:
            self.remove(request)
        batch: list[T] = []
        if flush or self.wait_s(now_s) == 0:
            room = self._max_batch
            while room and (caller := self._next()) is not None:
                request = caller.first()
                if request.count > self._max_batch:
                    batch.append(self._part(request, caller, room))
                elif request.count <= room:
                    self.remove(request)
                    batch.append(request)
                else:
                    break
                room -= batch[-1].count
                self._served(caller, batch[-1].count)
            self._forget()
        return batch, expired

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until a batch is due: 0 for now, None where nobody waits."""
        if not self._requests:
            return None
        if self._images >= self._max_batch:
            return 0.0
        first = next(iter(self._requests))
        return max(0.0, first.since_s + self._batch_wait_s - now_s)

    def _name(self, request: T) -> str:
        """Whose it is."""
        return request.caller

    def _part(self, request: T, caller: Caller[T], room: int) -> T:
        """Takes some images of a request; where more are left it filled the batch, and is the last to go on."""
        start = caller.requests[request]
        stop = min(start + room, request.count)
        if stop == request.count:
            self.remove(request)
        else:
            caller.requests[request] = stop
            self._images -= stop - start
            caller.last = request
        return request.part(start, stop)

    def _queue(self, caller: Caller[T]) -> None:
        """Notes a caller's turn, behind those whose is the same."""
        caller.number = next(self._numbers)
        heapq.heappush(self._turns, (caller.turn, caller.number, caller))

    def _next(self) -> Caller[T] | None:
        """The caller whose turn it is; None where nobody waits."""
        while self._turns:
            _, number, caller = self._turns[0]
            if caller.requests and number == caller.number:
                return caller
            heapq.heappop(self._turns)
        return None

    def _served(self, caller: Caller[T], images: int) -> None:
        """Ends the turn of the caller whose it is: it has had so many images, and others have had fewer."""
        heapq.heappop(self._turns)
        self._turn = caller.turn
        caller.turn += images
        if caller.requests:
            self._queue(caller)

    def _forget(self) -> None:
        """Forgets who has nothing waiting and has had no more than others."""
        self._callers = {
            name: caller for name, caller in self._callers.items() if caller.requests or caller.turn > self._turn
        }
