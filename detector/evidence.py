"""Evidence: how attacked images fare against clean ones, on the report part.

Three views of the attacks: each by itself; all together; and the worst case, in which a source
image counts as detected only if every attack on it is caught (MEAD, arXiv 2206.15415). Each view
counts all attacked images, and the successful ones alone where success is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from detector.document import Record
from detector.parts import Source
from detector.prediction import Floats
from detector.rates import Auc, Rate, tpr_at

TOGETHER: Final = "all together"
WORST_CASE: Final = "worst case"
FPRS: Final = (0.001, 0.01, 0.05)
"""Shares of clean images flagged, at which detection is told."""

Tprs = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Attacked images of the report part.

    Attributes:
        scores: (m,).
        flags: (m,) which are flagged.
        success: (m,) bool: right before the attack and wrong after it; None where not known.
        sources: m source images.
    """

    scores: Floats
    flags: NDArray[np.bool_]
    success: NDArray[np.bool_] | None
    sources: Sequence[Source]

    def successful(self) -> "Judged | None":
        """The successful ones; None where there are none, or it is not known."""
        if self.success is None or not self.success.any():
            return None
        rows = np.flatnonzero(self.success).tolist()
        return Judged(
            scores=self.scores[rows],
            flags=self.flags[rows],
            success=self.success[rows],
            sources=[self.sources[row] for row in rows],
        )

    @classmethod
    def pooled(cls, parts: Sequence["Judged"]) -> "Judged":
        """Images of several attacks, one after the other."""
        known = [part.success for part in parts if part.success is not None]
        return cls(
            scores=np.concatenate([part.scores for part in parts]),
            flags=np.concatenate([part.flags for part in parts]),
            success=np.concatenate(known) if len(known) == len(parts) else None,
            sources=[source for part in parts for source in part.sources],
        )

    def worst(self) -> "Judged":
        """One row for each source: its least suspicious score, flagged only if all of its images are."""
        rows: dict[Source, list[int]] = {}
        for row, source in enumerate(self.sources):
            rows.setdefault(source, []).append(row)
        return Judged(
            scores=np.array([self.scores[own].max() for own in rows.values()]),
            flags=np.array([self.flags[own].all() for own in rows.values()], dtype=np.bool_),
            success=None if self.success is None else np.array([self.success[own].any() for own in rows.values()]),
            sources=list(rows),
        )


class Detection(Record):
    """How well a score tells some attacked images from the clean ones.

    Attributes:
        n: Attacked images; in the worst case, sources.
        auc: Area under the ROC curve.
        tpr: Largest share flagged where at most 0.1 %, 1 % and 5 % of the clean images are: real
            points of the ROC curve, not interpolated.
    """

    n: int
    auc: Auc
    tpr: Tprs

    @classmethod
    def of(cls, clean: Floats, attacked: Floats) -> Self:
        """From the scores of both."""
        one, two, three = (tpr_at(clean, attacked, fpr) for fpr in FPRS)
        return cls(n=len(attacked), auc=Auc.of(clean, attacked), tpr=(one, two, three))


class AttackEvidence(Record):
    """How one view of the attacks fares under the calibrated score and threshold.

    Attributes:
        name: Of the attack, for example `pgd10-0.1`, or of the view.
        auc: All clean against all attacked inputs.
        flagged: Share of all attacked inputs.
        auc_successful: All clean against the successful attacks only; None where none succeeded
            or success is not known.
        flagged_successful: Share of the successful attacks, likewise.
        successes: How many attacks succeeded; None where that is not known, as in calibrations that
            do not say it.
        tpr: See `Detection`; None in calibrations of format 1.
        tpr_successful: Likewise.
    """

    name: str
    auc: Auc
    flagged: Rate
    auc_successful: Auc | None = None
    flagged_successful: Rate | None = None
    successes: int | None = None
    tpr: Tprs | None = None
    tpr_successful: Tprs | None = None

    @property
    def undetected(self) -> bool:
        """Whether the score is not known to tell it from clean images better than chance."""
        return self.auc.low <= 0.5


class Seen(Record):
    """Other images beside clean ones, under the calibrated score and threshold.

    Attributes:
        name: Of an attack, of a mild change, or of a set of images.
        flagged: Share that is flagged.
        auc: Probability that one of them scores below a clean one; None where the clean scores
            beside them are not known to be clean.
        then: In a check, the share that was flagged when the calibration was made; None where it
            knew none of that name.
    """

    name: str
    flagged: Rate
    auc: Auc | None
    then: Rate | None = None


class ScoreRow(Record):
    """One view of the attacks under one score.

    Attributes:
        name: See `AttackEvidence`.
        every: All attacked images.
        successful: The successful ones.
    """

    name: str
    every: Detection
    successful: Detection | None = None


class ScoreEvidence(Record):
    """One score beside the calibrated one, on the same images.

    Attributes:
        score: Its name.
        fitted: Clean images that it was fitted on, none of them of the report part; 0 where there
            is nothing to fit.
        rows: Each view of the attacks.
    """

    score: str
    fitted: int = 0
    rows: tuple[ScoreRow, ...]

    @property
    def weakest(self) -> ScoreRow:
        """The single attack that it tells worst from clean images."""
        single = [row for row in self.rows if row.name not in (TOGETHER, WORST_CASE)]
        return min(single, key=lambda row: row.every.auc.value)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The views of some attacks, by name: all inputs, and the successful ones or None."""

    rows: Mapping[str, tuple[Judged, Judged | None]]

    @classmethod
    def of(cls, attacks: Mapping[str, Judged]) -> Self:
        """Each attack; with two or more, all together and the worst case too."""
        rows = {name: (judged, judged.successful()) for name, judged in attacks.items()}
        if len(attacks) > 1:
            pooled = Judged.pooled(list(attacks.values()))
            wins = pooled.successful()
            rows[TOGETHER] = (pooled, wins)
            rows[WORST_CASE] = (pooled.worst(), None if wins is None else wins.worst())
        return cls(rows=rows)

    def attacks(self, clean: Floats) -> tuple[AttackEvidence, ...]:
        """Each view under the calibrated score, `clean` its scores of clean images."""
        return tuple(
            AttackEvidence(
                name=name,
                **_measured(clean, every, ""),
                **({} if wins is None else _measured(clean, wins, "_successful")),
                successes=self._successes(every, wins),
            )
            for name, (every, wins) in self.rows.items()
        )

    @staticmethod
    def _successes(every: Judged, wins: Judged | None) -> int | None:
        """How many succeeded; None where it is not known."""
        if wins is not None:
            return len(wins.scores)
        return None if every.success is None else 0

    def score(self, name: str, fitted: int, clean: Floats) -> ScoreEvidence:
        """Each view under a score."""
        rows = (
            ScoreRow(
                name=view,
                every=Detection.of(clean, every.scores),
                successful=None if wins is None else Detection.of(clean, wins.scores),
            )
            for view, (every, wins) in self.rows.items()
        )
        return ScoreEvidence(score=name, fitted=fitted, rows=tuple(rows))


def _measured(clean: Floats, judged: Judged, suffix: str) -> dict[str, Any]:
    """The fields of `AttackEvidence` with that suffix."""
    found = Detection.of(clean, judged.scores)
    return {f"auc{suffix}": found.auc, f"tpr{suffix}": found.tpr, f"flagged{suffix}": Rate.of(judged.flags)}
