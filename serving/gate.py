"""Who may come in: nobody before the models are ready, nobody new once the server stops."""

import threading
from collections.abc import Callable
from enum import Enum, auto

from detector.errors import Unavailable

OnDrain = Callable[[], None]


class _State(Enum):
    STARTING = auto()
    OPEN = auto()
    DRAINING = auto()


class Gate:
    """Counts the calls inside, so that a server that stops knows when the last has gone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._state = _State.STARTING
        self._inside = 0
        self._listeners: set[OnDrain] = set()

    @property
    def inside(self) -> int:
        """Calls that have come in and not gone."""
        return self._inside

    @property
    def is_open(self) -> bool:
        """Whether calls are let in."""
        return self._state is _State.OPEN

    def open(self) -> None:
        """Lets calls in from here on."""
        with self._condition:
            self._state = _State.OPEN

    def enter(self, on_drain: OnDrain | None = None) -> None:
        """Lets one call in, which must `leave`.

        Args:
            on_drain: Called when draining begins, for a call that would not end by itself.

        Raises:
            Unavailable: The server is starting or draining.
        """
        with self._condition:
            if self._state is _State.STARTING:
                raise Unavailable("the server is starting; try again soon")
            if self._state is _State.DRAINING:
                raise draining()
            self._inside += 1
            if on_drain is not None:
                self._listeners.add(on_drain)

    def leave(self, on_drain: OnDrain | None = None) -> None:
        """Counts one call out, with what it entered with."""
        with self._condition:
            self._inside -= 1
            if on_drain is not None:
                self._listeners.discard(on_drain)
            if self._inside == 0:
                self._condition.notify_all()

    def drain(self, timeout_s: float) -> int:
        """Lets nobody in any more, and waits for those inside.

        Returns:
            How many are still inside after so many seconds.
        """
        with self._condition:
            self._state = _State.DRAINING
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        with self._condition:
            self._condition.wait_for(lambda: self._inside == 0, timeout_s)
            return self._inside


def draining() -> Unavailable:
    """What a caller hears while the server stops."""
    return Unavailable("the server is draining; try another")
