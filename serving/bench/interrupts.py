"""Interrupts from the keyboard, held back where they would do harm.

Python raises KeyboardInterrupt wherever the main thread is. Inside gRPC, where a call has begun and nobody waits for
its end yet, that leaves a call that never ends, and its channel waits for it for ever on closing.
"""

import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Interrupts:
    """While entered, an interrupt is raised where somebody sleeps or asks, and nowhere else.

    Where a program has a handler of its own, that stays.
    """

    def __init__(self) -> None:
        self._arrived = False
        self._asleep = False
        self._before: Any = None

    def __enter__(self) -> Self:
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises KeyboardInterrupt if one has arrived."""
        if self._arrived:
            raise KeyboardInterrupt

    def letting(self, sleep: Callable[[float], None]) -> Callable[[float], None]:
        """A way to let seconds pass that an interrupt ends."""

        def interruptible(seconds: float) -> None:
            self._asleep = True
            try:
                self.check()
                sleep(seconds)
            finally:
                self._asleep = False

        return interruptible

    def _note(self, *_: object) -> None:
        """Takes one down, and raises it at once where nobody is disturbed."""
        self._arrived = True
        if self._asleep:
            raise KeyboardInterrupt
