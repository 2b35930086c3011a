"""`ledgate serve` with a queue in strict order of arrival, to compare with: whoever comes waits for all that others
have waiting, and for all of a large request. For `benchmarks.fairness` alone; the product has no such queue.
"""

import sys
from typing import TypeVar

from ledgate.cli import main
from serving import batcher
from serving.queue import Caller, RequestQueue, Waiting

T = TypeVar("T", bound=Waiting)


class FirstCome(RequestQueue[T]):
    """The server's own queue, in which all callers are one, and what is left of a large request stays in front."""

    def _name(self, _: T) -> str:
        """All are one."""
        return ""

    def _part(self, request: T, caller: Caller[T], room: int) -> T:
        """Nobody has to go behind the others."""
        part = super()._part(request, caller, room)
        caller.last = None
        return part


if __name__ == "__main__":
    batcher.RequestQueue = FirstCome  # type: ignore[attr-defined]
    sys.exit(main(["serve", *sys.argv[1:]]))
