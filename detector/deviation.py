"""Deviation: how far probes move on another execution path."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """What the probes of a calibration gave, against what is recorded of them.

    Attributes:
        score: Largest change of a probe's score; infinite where one of the two is.
        logits: Largest change of a logit.
        flags: Probes whose flag has turned.
        probes: How many there are.
    """

    score: float
    logits: float
    flags: int
    probes: int

    def __str__(self) -> str:
        """For messages."""
        moved = f"score moved by up to {self.score:.2g}, logits by up to {self.logits:.2g}"
        return f"{moved}, {self.flags} of {self.probes} flags turned"
