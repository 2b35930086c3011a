"""A point in time by which an answer is wanted, shared by all calls that it takes."""

import math
import time

from detector.errors import DeadlineExceeded, SettingError


class Deadline:
    """So many seconds from its making; None for never.

    Attributes:
        timeout_s: The seconds.

    Raises:
        InputError: It is not a positive number of seconds, or is infinite, for which there is None.
    """

    def __init__(self, timeout_s: float | None) -> None:
        check_timeout(timeout_s)
        self.timeout_s = timeout_s
        self._at_s = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left; raises DeadlineExceeded where there are none."""
        if self._at_s is None:
            return None
        left_s = self._at_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(
                f"timeout_s: expected all images to be sent within {self.timeout_s:g} s, found some that were not"
            )
        return left_s

    def allows(self, pause_s: float) -> bool:
        """Whether there is time left after a pause."""
        return self._at_s is None or time.monotonic() + pause_s < self._at_s


def check_timeout(timeout_s: float | None) -> None:
    """Raises InputError unless it is None or a positive number, and not infinite."""
    if timeout_s is not None and not 0 < timeout_s < math.inf:
        raise SettingError(f"timeout_s: expected a positive number of seconds, found {timeout_s}")
