"""The threads that run a model: they take batches from the queue and give each caller its own rows.

A batch has a lane of the model (`detector.lanes`) while members run, and leaves it before its callers are answered, so
that no lane waits for that. What comes while all are in use is the next batch. A batch that takes next to no time does
not begin beside another: what has come by the end of that one takes less together, and Python's lock lets but one be
answered at a time.

Callers share a run and nothing else. Where a batch fails, each of its requests is run alone, so that
one that breaks the model harms no other; where a member answers with NaN, only the callers of those
images hear of it. What went wrong is written to the log; the caller learns that something did.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detector.errors import Cancelled, DeadlineExceeded, Internal, LedgateError, Unavailable
from detector.imageset import Images, as_floats
from detector.verdicts import Verdicts
from serving.config import ServerConfig
from serving.detecting import Detecting
from serving.queue import RequestQueue
from serving.status import INTERNAL_TEXT, id_fields
from serving.ticket import Ticket
from serving.watching import Run, Watcher, rows, tell

log = logging.getLogger(__name__)


class Replaced(Unavailable):
    """Another version of the model has taken its place; no caller meets this."""


# A thread that is stuck inside a run cannot be ended; so long is waited for it.
_JOIN_S = 1.0
# A batch that takes less is not worth a lane of its own.
_WORTH_S = 1e-3


class Batcher:
    """A queue and the threads that empty it, from its making until `close`, or until it has finished.

    Args:
        detector: The model.
        config: Sizes of batches and of the queue.
        clock: Seconds, never going back; deadlines are on it.
        watchers: Told of every batch that has been answered.
    """

    def __init__(
        self,
        detector: Detecting,
        config: ServerConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self._detector = detector
        self._watchers = watchers
        self._name = detector.bundle.name
        self._clock = clock
        self._queue: RequestQueue[Ticket] = RequestQueue(
            max_batch=config.max_batch, batch_wait_s=config.batch_wait_s, max_queue=config.max_queue
        )
        self._spare = config.max_queue // 4
        self._condition = threading.Condition()
        self._lanes = detector.lanes
        # Batches that have a lane, and all that are not answered yet, these included.
        self._in_lanes: list[Sequence[Ticket]] = []
        self._running: list[Sequence[Ticket]] = []
        # Of all batches, the least that an image took: what it takes where nothing is in its way.
        self._image_s = math.inf
        self._hurried = False
        self._finishing = False
        self._closed = False
        name = f"batcher of {self._name}"
        # As many again, so that no lane is left empty while a batch is answered.
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(2 * self._lanes)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.images

    def admit(self, count: int, *, patient: bool = False) -> None:
        """Says before any work is done for a request whether there is room for its images.

        Args:
            count: How many these are.
            patient: It can wait: then a quarter of the queue is left to those who cannot.

        Raises:
            QueueFull: The queue is full.
        """
        with self._condition:
            self._queue.admit(count, spare=self._spare if patient else 0)

    def submit(self, ticket: Ticket) -> None:
        """Puts a request into the queue.

        Raises:
            QueueFull: The queue is full.
            Unavailable: The batcher is closed.
            Replaced: It only finishes what it has accepted.
        """
        with self._condition:
            if self._closed:
                raise _stopped()
            if self._finishing:
                raise Replaced("another version of the model has taken its place")
            self._queue.put(ticket)
            if self._has_lane():
                self._condition.notify()

    def cancel(self, ticket: Ticket) -> None:
        """Gives up the place of a caller that has left; a run that has begun goes on without it."""
        if ticket.settled:
            return
        with self._condition:
            self._queue.remove(ticket)
        ticket.settle(_expired() if ticket.deadline_s <= self._clock() else Cancelled("the caller has left"))

    def hurry(self) -> None:
        """From here on no batch waits for company."""
        with self._condition:
            self._hurried = True
            self._condition.notify_all()

    def finish(self) -> None:
        """Takes nothing more in; the threads end when all that has been accepted is answered."""
        with self._condition:
            self._hurried = True
            self._finishing = True
            self._condition.notify_all()

    def close(self) -> None:
        """Ends the threads; whoever still waits is told that the server has stopped."""
        with self._condition:
            self._closed = True
            left = [*chain.from_iterable(self._running), *self._queue.clear()]
            self._condition.notify_all()
        for ticket in left:
            ticket.settle(_stopped())
        until_s = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _work(self) -> None:
        """A thread: batch after batch."""
        while self._work_once():
            pass  # so that a thread that waits for the next batch does not hold its last one

    def _work_once(self) -> bool:
        """Waits for a batch and answers it; False where there will be none."""
        taken = self._next()
        if taken is None:
            return False
        batch, expired = taken
        for ticket in expired:
            ticket.settle(_expired())
        if batch:
            self._run(batch)
            self._end(batch)
        return True

    def _next(self) -> tuple[list[Ticket], list[Ticket]] | None:
        """Waits for a batch, or for requests that have expired; None at the end."""
        with self._condition:
            while not self._closed and (self._queue or not self._finishing):
                now_s = self._clock()
                has_lane = self._has_lane()
                batch, expired = self._queue.take(now_s, flush=self._hurried) if has_lane else ([], [])
                if batch:
                    self._running.append(batch)
                    self._in_lanes.append(batch)
                    self._pass_on()
                if batch or expired:
                    return batch, expired
                self._condition.wait(self._queue.wait_s(now_s) if has_lane else None)
            self._condition.notify_all()  # nothing is left for the other threads either
            return None

    def _end(self, batch: Sequence[Ticket]) -> None:
        """Forgets a batch that has been answered."""
        with self._condition:
            _drop(self._running, batch)
            _drop(self._in_lanes, batch)  # of a batch that has failed
            for ticket in batch:
                if ticket.settled:  # of a request that was refused in part, the rest is not run
                    self._queue.remove(ticket.whole)

    def _leave_lane(self, batch: Sequence[Ticket]) -> None:
        """Lets another batch run while this one is answered."""
        with self._condition:
            _drop(self._in_lanes, batch)
            self._pass_on()

    def _pass_on(self) -> None:
        """Wakes a thread for what still waits, if that may run."""
        if self._queue and self._has_lane():
            self._condition.notify()

    def _has_lane(self) -> bool:
        """Whether what waits may run now: there is a lane, and it is worth it where others are not answered yet."""
        worth = not self._running or self._queue.images * self._image_s >= _WORTH_S
        return worth and len(self._in_lanes) < self._lanes

    def _run(self, batch: Sequence[Ticket]) -> None:
        """Settles every request of a batch, whatever happens."""
        try:
            self._answer(batch)
        except Exception:  # a model may fail in any way, and none may end the thread
            if len(batch) == 1:
                fields = id_fields(batch[0].request_id)
                log.exception("model %s: the run failed: %s", self._name, batch[0], extra=fields)
                batch[0].settle(Internal(INTERNAL_TEXT))
                return
            log.exception("model %s: a batch of %d requests failed; each is run alone", self._name, len(batch))
            for ticket in batch:
                if ticket.deadline_s <= self._clock():
                    ticket.settle(_expired())
                if not ticket.settled:
                    self._run([ticket])

    def _answer(self, batch: Sequence[Ticket]) -> None:
        """Runs the model, and judges the rows of all callers whose rows are numbers."""
        begun_s = self._clock()
        logits = self._logits(batch)
        self._leave_lane(batch)
        if not np.isfinite(logits).all():
            kept = [self._is_finite(ticket, logits[own]) for ticket, own in rows(batch)]
            parts = [logits[own] for keep, (_, own) in zip(kept, rows(batch), strict=True) if keep]
            batch = [ticket for keep, ticket in zip(kept, batch, strict=True) if keep]
            if not batch:
                return
            logits = np.concatenate(parts)
        verdicts = self._detector.judge(logits, members=any(ticket.members for ticket in batch))
        ended_s = self._clock()
        self._image_s = min(self._image_s, (ended_s - begun_s) / len(verdicts))
        sound = verdicts.score is not None and not np.isnan(verdicts.score).any()
        outcomes = [self._own(verdicts, own, ticket, sound=sound) for ticket, own in rows(batch)]
        for ticket, outcome in zip(batch, outcomes, strict=True):
            ticket.settle(outcome)
        if self._watchers and all(isinstance(outcome, Verdicts) for outcome in outcomes):
            run = Run(
                model=self._name,
                detector=self._detector,
                tickets=batch,
                verdicts=verdicts,
                begun_s=begun_s,
                ended_s=ended_s,
            )
            tell(self._watchers, run)

    def _logits(self, batch: Sequence[Ticket]) -> NDArray[np.float32]:
        """(N, K, L) of all images of a batch."""
        images = _join([ticket.images for ticket in batch])
        logits = self._detector.logits(images)
        if logits.ndim != 3 or len(logits) != len(images):
            raise Internal(f"logits: expected ({len(images)}, K, L), found {logits.shape}")
        return logits

    def _is_finite(self, ticket: Ticket, logits: NDArray[np.float32]) -> bool:
        """Whether a caller's logits are numbers; where not, that caller is told."""
        bad = ~np.isfinite(logits)
        if not bad.any():
            return True
        image, member, label = np.argwhere(bad)[0]
        log.error(
            "model %s: member %d answered with %s for class %d of image %d: %s",
            *(self._name, member, logits[image, member, label], label, ticket.start + image, ticket.whole),
            extra=id_fields(ticket.request_id),
        )
        ticket.settle(Internal(INTERNAL_TEXT))
        return False

    def _own(self, verdicts: Verdicts, own_rows: slice, ticket: Ticket, *, sound: bool) -> Verdicts | LedgateError:
        """A caller's verdicts. A score that is not a number is never below a threshold, so it is no verdict.

        Sound are verdicts whose scores are numbers, so that they need not be looked at again for each caller. With
        that, and one copy in place of two, a caller's part of a batch of eight takes 0.3 of the CPU that it took.
        """
        own = verdicts.only(own_rows)
        if not sound and (own.score is None or np.isnan(own.score).any()):
            fields = id_fields(ticket.request_id)
            log.error("model %s: the score is not a number: %s", self._name, ticket, extra=fields)
            return Internal(INTERNAL_TEXT)
        if ticket.members or own.member_probabilities is None:
            return own
        return replace(own, member_probabilities=None)


def _drop(batches: list[Sequence[Ticket]], batch: Sequence[Ticket]) -> None:
    """Takes a batch out, where it is one of them."""
    batches[:] = [each for each in batches if each is not batch]


def _expired() -> DeadlineExceeded:
    """What a caller hears whose time was up."""
    return DeadlineExceeded("the deadline passed before the request was answered")


def _stopped() -> Unavailable:
    """What a caller hears that was still waiting when the grace ran out."""
    return Unavailable("the server has stopped")


def _join(parts: Sequence[Images]) -> Images:
    """All images as one array; uint8 stays uint8 unless others are floats."""
    if len(parts) == 1:
        return parts[0]
    if len({part.dtype for part in parts}) > 1:
        return np.concatenate([as_floats(part) for part in parts])
    return cast("Images", np.concatenate(parts))
