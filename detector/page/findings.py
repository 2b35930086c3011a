"""What a calibration found, in words: verdicts on attacks, and what passes unseen.

Where it is known which attacks succeeded, those are what counts: an attacked image that the
ensemble still classifies right did no harm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from detector.calibration import Calibration
from detector.evidence import WORST_CASE, AttackEvidence
from detector.rates import Auc, Rate
from detector.targets import MeanFpr, PerClass, TargetFpr, TargetTpr

_UNAWARE: Final = "None that was tried is known to aim at this detector: one that does may pass far more often."
_AWARE: Final = "aware-"
"""How the name of an attack begins that knows the detector: `ledgate attack --aware-of` gives such names."""


class Verdict(Enum):
    """How an attack fares, by the 95 % intervals of its AUC and of the share that is flagged."""

    CAUGHT = "mostly caught"
    HALF = "about half caught"
    MISSED = "mostly missed"
    LOST = "AUC no better than chance"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One view of the attacks, as it counts.

    Attributes:
        evidence: All that was measured.
        successful: Whether it is the successful attacks that count.
        flagged: Share of those that count.
        auc: Of those.
    """

    evidence: AttackEvidence
    successful: bool
    flagged: Rate
    auc: Auc

    @classmethod
    def of(cls, evidence: AttackEvidence) -> "Finding":
        """The successful ones where they are known, else all."""
        flagged, auc = evidence.flagged_successful, evidence.auc_successful
        if flagged is None or auc is None:
            return cls(evidence=evidence, successful=False, flagged=evidence.flagged, auc=evidence.auc)
        return cls(evidence=evidence, successful=True, flagged=flagged, auc=auc)

    @property
    def name(self) -> str:
        """Of the attack or the view."""
        return self.evidence.name

    @property
    def aware(self) -> bool:
        """Whether the attacker knows the detector, as far as the name tells."""
        return self.name.startswith(_AWARE)

    @property
    def tried(self) -> int:
        """How many images were attacked, with success or without."""
        return self.evidence.flagged.n

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        if self.evidence.undetected or self.auc.low <= 0.5:
            return Verdict.LOST
        if self.flagged.high < 0.5:
            return Verdict.MISSED
        return Verdict.CAUGHT if self.flagged.low > 0.5 else Verdict.HALF

    @property
    def missed(self) -> Rate:
        """Share that passes unflagged."""
        seen = self.flagged
        return Rate(count=seen.n - seen.count, n=seen.n, rate=1 - seen.rate, low=1 - seen.high, high=1 - seen.low)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a calibration found of the attacks that were tried.

    Attributes:
        attacks: Each attack.
        worst: The worst case over them; None with fewer than two.
    """

    attacks: Sequence[Finding]
    worst: Finding | None

    @classmethod
    def of(cls, calibration: Calibration) -> "Findings":
        """Those of a calibration."""
        views = {view.name: view for view in calibration.views}
        return cls(
            attacks=[Finding.of(attack) for attack in calibration.attacks],
            worst=Finding.of(views[WORST_CASE]) if WORST_CASE in views else None,
        )

    @property
    def weakest(self) -> Finding | None:
        """The attack of which the smallest share is flagged; None without attacks."""
        return min(self.attacks, key=lambda found: found.flagged.rate, default=None)

    @property
    def missed(self) -> list[Finding]:
        """The attacks, the most missed first."""
        return sorted(self.attacks, key=lambda found: found.flagged.rate)

    @property
    def aware(self) -> list[Finding]:
        """Those whose attacker knows the detector, the most missed first."""
        return [found for found in self.missed if found.aware]

    @property
    def uneven(self) -> bool:
        """Whether some attack was tried on fewer images than there are, so that the worst case is worse than told."""
        return self.worst is not None and any(found.tried < self.worst.tried for found in self.attacks)

    @property
    def headline(self) -> str:
        """What came out, in a sentence that claims no more than the intervals allow."""
        count = len(self.attacks)
        caught = sum(found.verdict is Verdict.CAUGHT for found in self.attacks)
        if count == 0:
            return "No attack was tried, so nothing is known of what this detector catches."
        if count == 1:
            return f"The one attack tried is {'' if caught else 'not '}caught more often than missed."
        if caught == count:
            return f"Each of the {count} attacks tried is caught more often than missed."
        if caught == 0:
            return f"None of the {count} attacks tried is caught more often than missed."
        verb = "is" if caught == 1 else "are"
        return f"{caught} of the {count} attacks tried {verb} caught more often than missed."

    @property
    def summary(self) -> str:
        """What an attacker reaches, in a sentence."""
        if not self.attacks:
            return "Measured is only how many honest images it flags; without attacked images nobody knows what passes."
        if self.worst is None:
            passing = f"{_passing(self.attacks[0], 'it')} pass unflagged after it."
        else:
            passing = f"An attacker who may choose among them gets past it with {_passing(self.worst, 'one of them')}."
        return passing if self.aware else f"{passing} {_UNAWARE}"


def _passing(found: Finding, attack: str) -> str:
    """The share that passes with its interval, for a sentence."""
    share = found.missed
    turned = f" that {attack} turns wrong" if found.successful else ""
    return f"{100 * share.rate:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f}) of the images{turned}"


def about_promise(calibration: Calibration) -> str:
    """What kind of promise it is."""
    match calibration.target.target if isinstance(calibration.target, PerClass) else calibration.target:
        case TargetFpr() | MeanFpr():
            return "A promise about honest images alone. What is caught of attacks is measured below, and not promised."
        case TargetTpr():
            return "A promise about these attacks as they are, and none about false alarms."
        case _:
            return "Nothing. What is caught, and what is flagged in error, is measured below."


def promised_fpr(calibration: Calibration) -> float | None:
    """The share of honest images that the target lets be flagged; None where it bounds none."""
    target = calibration.target.target if isinstance(calibration.target, PerClass) else calibration.target
    return target.rate if isinstance(target, TargetFpr | MeanFpr) else None


def kept(calibration: Calibration) -> str:
    """Whether the false alarms that were measured speak for the promise."""
    promised, found = promised_fpr(calibration), calibration.false_positives
    if promised is None:
        return "nothing is promised about them"
    if found.low > promised:
        return f"MORE than the {100 * promised:g} % promised, beyond what chance explains"
    if found.rate > promised:
        return f"above the {100 * promised:g} % promised, by no more than chance explains"
    return f"within the {100 * promised:g} % promised"
