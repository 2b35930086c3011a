"""The one thread that runs a model: takes batches from the queue, gives each caller its own rows.

One, although members run on several (`detector.lanes`): what comes while a batch runs is the next batch, half of all
callers where they call without pause, so that the members always run while the other half is answered. With a thread
for each lane the batches were half as large, and an image took 1.1 times the CPU (three ResNet-20, 32 callers).

Callers share a run and nothing else. Where a batch fails, each of its requests is run alone, so that
one that breaks the model harms no other; where a member answers with NaN, only the callers of those
images hear of it. What went wrong is written to the log; the caller learns that something did.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detector.errors import Cancelled, DeadlineExceeded, Internal, LedgateError, Unavailable
from detector.imageset import Images, as_floats
from detector.verdicts import Verdicts
from serving.config import ServerConfig
from serving.detecting import Detecting
from serving.queue import RequestQueue
from serving.status import INTERNAL_TEXT
from serving.ticket import Ticket
from serving.watching import Run, Watcher, rows, tell

log = logging.getLogger(__name__)


class Replaced(Unavailable):
    """Another version of the model has taken its place; no caller meets this."""


# A thread that is stuck inside a run cannot be ended; so long is waited for it.
_JOIN_S = 1.0


class Batcher:
    """A queue and the thread that empties it, from its making until `close`, or until it has finished.

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
        self._condition = threading.Condition()
        self._running: Sequence[Ticket] = ()
        self._hurried = False
        self._finishing = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"batcher of {self._name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return self._queue.images

    def admit(self, count: int) -> None:
        """Says before any work is done for a request whether there is room for its images.

        Raises:
            QueueFull: The queue is full.
        """
        with self._condition:
            self._queue.admit(count)

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
            self._condition.notify()

    def finish(self) -> None:
        """Takes nothing more in; the thread ends when all that has been accepted is answered."""
        with self._condition:
            self._hurried = True
            self._finishing = True
            self._condition.notify()

    def close(self) -> None:
        """Ends the thread; whoever still waits is told that the server has stopped."""
        with self._condition:
            self._closed = True
            left = [*self._running, *self._queue.clear()]
            self._condition.notify()
        for ticket in left:
            ticket.settle(_stopped())
        self._thread.join(_JOIN_S)

    def _work(self) -> None:
        """The thread: batch after batch."""
        while (taken := self._next()) is not None:
            batch, expired = taken
            for ticket in expired:
                ticket.settle(_expired())
            if batch:
                self._run(batch)

    def _next(self) -> tuple[list[Ticket], list[Ticket]] | None:
        """Waits for a batch, or for requests that have expired; None at the end."""
        with self._condition:
            for ticket in self._running:
                if ticket.settled:  # of a request that was refused in part, the rest is not run
                    self._queue.remove(ticket.whole)
            self._running = ()
            while not self._closed and (self._queue or not self._finishing):
                now_s = self._clock()
                batch, expired = self._queue.take(now_s, flush=self._hurried)
                if batch or expired:
                    self._running = batch
                    return batch, expired
                self._condition.wait(self._queue.wait_s(now_s))
            return None

    def _run(self, batch: Sequence[Ticket]) -> None:
        """Settles every request of a batch, whatever happens."""
        try:
            self._answer(batch)
        except Exception:  # a model may fail in any way, and none may end the thread
            if len(batch) == 1:
                log.exception("model %s: the run failed: %s", self._name, batch[0])
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
        if not np.isfinite(logits).all():
            kept = [self._is_finite(ticket, logits[own]) for ticket, own in rows(batch)]
            parts = [logits[own] for keep, (_, own) in zip(kept, rows(batch), strict=True) if keep]
            batch = [ticket for keep, ticket in zip(kept, batch, strict=True) if keep]
            if not batch:
                return
            logits = np.concatenate(parts)
        verdicts = self._detector.judge(logits, members=any(ticket.members for ticket in batch))
        ended_s = self._clock()
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
            log.error("model %s: the score is not a number: %s", self._name, ticket)
            return Internal(INTERNAL_TEXT)
        if ticket.members or own.member_probabilities is None:
            return own
        return replace(own, member_probabilities=None)


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
