"""Who looks on: metrics, the audit trail, and whatever else wants to know what the models answered.

A watcher is a function. It is called on the thread that has run the batch, once for each and after the callers have
their answers, so that it delays nobody's answer and only a later batch: it has to be quick, and hand anything slow to a
thread of its own. Several threads may call it at once.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from detector.verdicts import Verdicts
from serving.detecting import Detecting
from serving.ticket import Ticket

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A batch that has been answered.

    Attributes:
        model: By which name it is asked for.
        detector: What answered.
        tickets: The requests, each with its images; of one larger than a batch a part.
        verdicts: Of all their images, in order; the scores are numbers.
        begun_s: When the batch left the queue, on the clock of `Ticket.since_s`.
        ended_s: When its verdicts were there.
    """

    model: str
    detector: Detecting
    tickets: Sequence[Ticket]
    verdicts: Verdicts
    begun_s: float
    ended_s: float

    def rows(self) -> Iterator[tuple[Ticket, slice]]:
        """Each request, with which rows of the verdicts are its own."""
        return rows(self.tickets)


Watcher: TypeAlias = Callable[[Run], None]


def rows(tickets: Sequence[Ticket]) -> Iterator[tuple[Ticket, slice]]:
    """Which rows of a batch are whose."""
    start = 0
    for ticket in tickets:
        yield ticket, slice(start, start + ticket.count)
        start += ticket.count


def tell(watchers: Sequence[Watcher], run: Run) -> None:
    """Tells all of them; one that fails is written to the log and harms neither the model nor the others."""
    for watcher in watchers:
        try:
            watcher(run)
        except Exception:
            log.exception("watching: %s failed", getattr(watcher, "__qualname__", type(watcher).__name__))
