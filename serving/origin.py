"""Where a request comes from: its caller, and how long he will wait."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)  # not frozen: one is made for each call, and that would triple its price
class Origin:
    """What is known of a request beside its message.

    Attributes:
        caller: The name of his token, else the address of his connection: among callers a model is shared evenly.
        given_id: By which the request is known where its caller has not named it.
        remaining_s: How long its caller will wait.
        check_wanted: Raises where nobody waits any more; asked before each image is decoded.
        patient: It is asked again where there is no room, so that others are left the last of it.
    """

    caller: str = ""
    given_id: str = ""
    remaining_s: float = math.inf
    check_wanted: Callable[[], None] = lambda: None
    patient: bool = False
