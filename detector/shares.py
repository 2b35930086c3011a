"""A progress bar over images whose work takes long: each batch tells how much of it is done."""

from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"


class Shares:
    """The bar, on standard error if that is a terminal.

    Args:
        total: Images.
        name: What is done to them.
        shown: Whether there is to be a bar at all.
    """

    def __init__(self, total: int, name: str, *, shown: bool = True) -> None:
        self._bar = tqdm(total=total, desc=name, bar_format=_FORMAT, disable=None if shown else True)
        self._done = 0.0

    def __enter__(self) -> "Shares":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def part(self, count: int) -> Callable[[float], None]:
        """What a batch of so many images calls with its share done, from 0 to 1."""

        def report(share: float) -> None:
            self._move(self._done + share * count)

        return report

    def finish(self, count: int) -> None:
        """So many images are done."""
        self._done += count
        self._move(self._done)

    def _move(self, to: float) -> None:
        """Moves the bar, never back."""
        self._bar.update(max(0.0, to - self._bar.n))
