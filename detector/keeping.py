"""Whether a promise about a share is still kept: one exact test, and how many inputs it takes.

A promise bounds the share of inputs for which something goes wrong: clean images flagged, or
attacked images missed. Of n inputs drawn independently, k went wrong. The promise counts as broken
where k or more would be seen with probability at most delta if the share were just what was promised
(an exact one-sided binomial test; the Clopper-Pearson lower bound lies above the promise). So a
promise that is kept is called broken in at most a share delta of all checks.
"""

from enum import StrEnum
from typing import Self

import numpy as np

from detector.document import Record
from detector.errors import SettingError
from detector.rates import Rate

# The test is to notice a share that has grown by this factor.
_GROWTH = 2.0


class Finding(StrEnum):
    """What a check says of a promise, the worst first."""

    BROKEN = "broken"
    TOO_FEW = "too few"
    CONSISTENT = "consistent"
    KEPT = "kept"

    @property
    def meaning(self) -> str:
        """In a few words."""
        return {
            Finding.BROKEN: "the share is larger than promised",
            Finding.TOO_FEW: "too few images to tell",
            Finding.CONSISTENT: "nothing speaks against the promise",
            Finding.KEPT: "the share is no larger than promised",
        }[self]


class Keeping(Record):
    """A promise beside what was found.

    Attributes:
        subject: What the share is of, for example `clean images flagged`.
        bound: The share that is promised not to be exceeded.
        share: The share that was found, with its two-sided 95 % interval.
        delta: Probability with which a promise that is kept is called broken.
        p_value: Probability of so large a share, or a larger one, if the bound were the true share.
        low: Lower bound of the true share, exact, with confidence 1 - delta.
        high: Upper bound, likewise by itself.
        enough: About as many inputs as it takes to notice, with probability 1 - delta, that the share
            has become twice the bound.
        finding: `broken` where `low` is above the bound; `kept` where `high` is not; between the two
            `consistent`, or `too few` where there are fewer inputs than `enough`.
    """

    subject: str
    bound: float
    share: Rate
    delta: float
    p_value: float
    low: float
    high: float
    enough: int
    finding: Finding

    @classmethod
    def of(cls, subject: str, wrong: np.ndarray, bound: float, delta: float) -> Self:
        """Compares the share of True in a non-empty array of booleans with a bound from 0 to 1.

        Raises:
            InputError: A bound or a delta out of range, or no inputs.
        """
        if not 0 <= bound <= 1:
            raise SettingError(f"bound: expected a share from 0 to 1, found {bound}")
        if not 0 < delta < 1:
            raise SettingError(f"delta: expected a number between 0 and 1, found {delta}")
        from scipy.stats import beta, binom

        share = Rate.of(wrong)
        k, n = share.count, share.n
        p_value = float(binom.sf(k - 1, n, bound))
        low = float(beta.ppf(delta, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(1 - delta, k + 1, n - k)) if k < n else 1.0
        enough = images_to_tell(bound, delta)
        if p_value <= delta:
            finding = Finding.BROKEN
        elif high <= bound:
            finding = Finding.KEPT
        else:
            finding = Finding.CONSISTENT if n >= enough else Finding.TOO_FEW
        return cls(
            subject=subject,
            bound=bound,
            share=share,
            delta=delta,
            p_value=p_value,
            low=low,
            high=high,
            enough=enough,
            finding=finding,
        )


def power(n: int, bound: float, delta: float, share: float) -> float:
    """The probability that n inputs show a bound to be broken where this is the true share."""
    from scipy.stats import binom

    # The fewest that go wrong in a broken promise: sf(k - 1) <= delta.
    fewest = int(binom.isf(delta, n, bound)) + 1
    return float(binom.sf(fewest - 1, n, share))


def images_to_tell(bound: float, delta: float) -> int:
    """About as many inputs as it takes to notice a share of twice the bound, with probability 1 - delta.

    The power of an exact test goes up in a saw-tooth; this n has it, and n - 1 has not. 0 where there
    is nothing to notice: a bound of 0 is broken by the first, one of 1 by none.
    """
    share = min(_GROWTH * bound, (1 + bound) / 2)
    if bound in (0.0, 1.0):
        return 0
    low, high = 0, 1
    while power(high, bound, delta, share) < 1 - delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if power(middle, bound, delta, share) < 1 - delta:
            low = middle
        else:
            high = middle
    return high
