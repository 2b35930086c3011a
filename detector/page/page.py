"""The page: a calibration, the plots of its scores and a few images, put into the templates."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from detector import report
from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.evidence import FPRS, AttackEvidence
from detector.files import write_bytes
from detector.page.findings import Findings, Verdict, about_promise, kept, promised_fpr
from detector.page.histogram import Histogram, Histograms
from detector.page.nearest import Nearest
from detector.page.roc import Roc
from detector.page.scored import Scored
from detector.recommendation import recommend
from detector.scorescale import scale_for
from detector.shifts import MILD

FILE: Final = "report.html"
_STYLE: Final = "report.css"


def write_page(
    path: Path, bundle: Bundle, calibration: Calibration, clean: Scored, attacks: Mapping[str, Scored]
) -> None:
    """Writes the page, whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        bundle: What was calibrated.
        calibration: What came out: every figure is from it.
        clean: The clean images of the report part.
        attacks: Each attack's images of the report part, by its name in the calibration.
    """
    # Names of files may hold bytes that are no text: those become question marks.
    write_bytes(path, render(bundle, calibration, clean, attacks).encode("utf-8", "replace"))


def render(bundle: Bundle, calibration: Calibration, clean: Scored, attacks: Mapping[str, Scored]) -> str:
    """The page as HTML; see `write_page`."""
    environment = Environment(
        loader=PackageLoader("detector.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "count": _count, "unbroken": _unbroken}
    style = environment.get_template(_STYLE).render()
    return environment.get_template("report.html.j2").render(
        bundle=bundle,
        calibration=calibration,
        findings=Findings.of(calibration),
        verdicts=Verdict,
        promise=report.promise(calibration),
        promised=promised_fpr(calibration),
        about_promise=about_promise(calibration),
        kept=kept(calibration),
        shakiest=max(calibration.changed, key=lambda seen: seen.flagged.rate, default=None),
        spared=[] if calibration.changed_fpr is None else [shift.name for shift in MILD],
        recommended=recommend(calibration),
        fprs=FPRS,
        best=_best(calibration),
        class_counts=np.bincount(calibration.clean_classes or (), minlength=bundle.class_count).tolist(),
        plots=_plots(calibration, clean, attacks),
        nearest=_nearest(bundle, calibration, clean, attacks),
        # The content security policy lets in this very sheet, and no other.
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What is drawn of one attack: its evidence, and two plots. None of an attack where none was tried."""

    evidence: AttackEvidence | None
    histogram: Histogram
    curve: str


@dataclass(frozen=True, kw_only=True)
class Plots:
    """The plots, and the axes that their curves share."""

    every: list[Plot]
    roc: Roc


def _plots(calibration: Calibration, clean: Scored, attacks: Mapping[str, Scored]) -> Plots:
    """The plots of each attack, on scales that they share."""
    axes = Roc.beside(clean.scores)
    limits = np.array(calibration.thresholds or [calibration.threshold], dtype=np.float64)
    scale = scale_for(calibration.score, clean.scores, [one.scores for one in attacks.values()], limits)
    scores = [attacks[evidence.name].scores for evidence in calibration.attacks]
    drawn = Histograms.of(scale, calibration.limit, clean.scores, scores).drawn()
    if not scores:
        return Plots(every=[Plot(evidence=None, histogram=drawn[0], curve="")], roc=axes)
    every = [
        Plot(evidence=evidence, histogram=histogram, curve=axes.path(clean.scores, own))
        for evidence, histogram, own in zip(calibration.attacks, drawn, scores, strict=True)
    ]
    return Plots(every=every, roc=axes)


def _nearest(
    bundle: Bundle, calibration: Calibration, clean: Scored, attacks: Mapping[str, Scored]
) -> list[tuple[str, Nearest]]:
    """The images nearest the threshold: clean ones, and attacked ones where there are any."""
    found = [("Honest", Nearest.of({"": clean}, calibration.limit, bundle.labels))]
    if attacks:
        found.append(("Attacked", Nearest.of(attacks, calibration.limit, bundle.labels)))
    return found


def _best(calibration: Calibration) -> list[float]:
    """The highest AUC of any score on each view of the attacks."""
    views = zip(*(evidence.rows for evidence in calibration.comparison), strict=True)
    return [max(row.every.auc.value for row in rows) for rows in views]


def _percent(share: float, digits: int = 1) -> str:
    """A share for a reader: `5.4 %`."""
    return _unbroken(f"{100 * share:.{digits}f} %")


def _unbroken(text: str) -> str:
    """A text in which no line ends between a number and its per cent."""
    return text.replace(" %", "\u00a0%")


def _count(number: int) -> str:
    """A number of things: `1,250`."""
    return f"{number:,}"
