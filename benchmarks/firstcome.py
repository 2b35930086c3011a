"""`ledgate serve` with a queue in strict order of arrival, to compare with: what is left of a large request stays in
front, and whoever comes meanwhile waits for all of it. For `benchmarks.fairness` alone; the product has no such queue.
"""

import sys
from typing import TypeVar

from ledgate.cli import main
from serving import batcher
from serving.queue import RequestQueue, Waiting

T = TypeVar("T", bound=Waiting)


class FirstCome(RequestQueue[T]):
    """The server's own queue, but for whose turn it is after a part of a large request."""

    def take(self, now_s: float, *, flush: bool = False) -> tuple[list[T], list[T]]:
        """The next batch; nobody has to go behind the others."""
        self._last = None
        return super().take(now_s, flush=flush)


if __name__ == "__main__":
    batcher.RequestQueue = FirstCome  # type: ignore[attr-defined]
    sys.exit(main(["serve", *sys.argv[1:]]))
