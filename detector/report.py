"""The report of a calibration: what is promised, what is caught and what is not, with two plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from detector import markdown
from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.evidence import FPRS, Tprs
from detector.files import replacing, write_bytes
from detector.prediction import Floats
from detector.rates import curve
from detector.recommendation import recommend
from detector.scorescale import scale_for
from detector.shifts import MILD
from detector.targets import Explicit, MeanFpr, PerClass, Target, TargetFpr, TargetTpr, Youden

_STYLE: Final[Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}


def write_report(
    folder: Path, bundle: Bundle, calibration: Calibration, clean: Floats, attacked: Mapping[str, Floats]
) -> None:
    """Writes `report.md`, `roc.png` and `scores.png` into a folder.

    Args:
        folder: Made if it is not there; files of these names are replaced.
        bundle: What was calibrated.
        calibration: What came out.
        clean: (n,) scores of the clean images of the report part.
        attacked: (m,) scores of each attack's images of the report part.
    """
    with mpl.rc_context(_STYLE):
        if attacked:
            _save(_roc(calibration, clean, attacked), folder / "roc.png")
        _save(_histogram(calibration, clean, attacked), folder / "scores.png")
    write_bytes(folder / "report.md", _text(bundle, calibration).encode())


def promise(calibration: Calibration) -> str:
    """What the threshold promises, in a sentence or two."""
    found = _promise(calibration.target, len(calibration.clean_scores))
    if calibration.changed_fpr is None:
        return found
    kinds = ", ".join(shift.name for shift in MILD)
    return f"{found} And likewise at most {100 * calibration.changed_fpr:g} % after each of these changes: {kinds}."


def _promise(target: Target, n: int) -> str:
    """The promise of a target that n clean images have met."""
    match target:
        case TargetFpr(rate, delta):
            return (
                f"At most {100 * rate:g} % of honest images are flagged, with {100 * (1 - delta):g} % confidence, "
                f"as long as they are drawn like the {n} that chose the threshold."
            )
        case MeanFpr(rate):
            return (
                f"At most {100 * rate:g} % of honest images are flagged ON AVERAGE over calibrations, as long as they "
                f"are drawn like the {n} that chose the threshold. Almost every second calibration flags more; "
                "--target-fpr without --on-average bounds this one."
            )
        case TargetTpr(rate, delta):
            return (
                f"At least {100 * rate:g} % of the images of each attack below are flagged, with "
                f"{100 * (1 - delta):g} % confidence, as long as the attacks stay as they are. "
                "There is no bound on false alarms."
            )
        case Youden():
            return "There is none: the threshold has the largest share of attacks flagged less share of clean flagged."
        case Explicit():
            return "There is none: the threshold was given by hand."
        case PerClass(inner):
            return f"In each predicted class by itself: {_promise(inner, n)}" + _shared(inner)


def _shared(target: Target) -> str:
    """How far the confidence of one target in each class reaches."""
    return " The confidence is for all classes together." if isinstance(target, TargetFpr | TargetTpr) else ""


def confidence(calibration: Calibration) -> str:
    """What the temperature does, as a sentence."""
    found = calibration.confidence
    if found is None:
        return "none: the clean images have no labels, so recalibrated probabilities stay empty"
    return (
        f"temperature {found.temperature:.3g}, fitted on {found.fitted} images; on {found.reported} others the "
        f"expected calibration error goes from {found.ece_before:.3f} to {found.ece_after:.3f}, the negative "
        f"log-likelihood from {found.nll_before:.3f} to {found.nll_after:.3f}"
    )


def honest(calibration: Calibration) -> str:
    """The share of mildly changed images, and of images of other kinds, that is flagged, as a table; empty without."""
    groups = (("clean, changed", calibration.changed), ("other kind", calibration.foreign))
    rows = [
        (kind, seen.name, str(seen.flagged.n), str(seen.flagged), str(seen.auc or ""))
        for kind, group in groups
        for seen in group
    ]
    head = ("images nobody attacked", "name", "n", "flagged (95 % interval)", "AUC against clean")
    return markdown.table([head, *rows]) if rows else ""


def detection(calibration: Calibration) -> str:
    """The share of attacked images flagged at small shares of clean images flagged, as a table."""
    shares = [f"{100 * fpr:g} %" for fpr in FPRS]
    rows = [("flagged where this much of clean is:", *shares, *(f"successful, {share}" for share in shares))]
    for attack in (*calibration.attacks, *calibration.views):
        if attack.tpr is not None:
            wins = ("",) * len(FPRS) if attack.tpr_successful is None else _percents(attack.tpr_successful)
            rows.append((attack.name, *_percents(attack.tpr), *wins))
    return markdown.table(rows)


def comparison(calibration: Calibration) -> str:
    """The AUC of every score on the same images, as a table; after the stroke, of successful attacks alone."""
    scores = calibration.comparison
    rows = [("AUC, all / successful", *(evidence.score for evidence in scores))]
    for views in zip(*(evidence.rows for evidence in scores), strict=True):
        cells = [
            f"{view.every.auc.value:.3f}" + ("" if view.successful is None else f" / {view.successful.auc.value:.3f}")
            for view in views
        ]
        rows.append((views[0].name, *cells))
    return markdown.table(rows)


def _percents(shares: Tprs) -> tuple[str, ...]:
    """Shares for a table."""
    return tuple(f"{100 * share:.1f} %" for share in shares)


def table(calibration: Calibration) -> str:
    """The evidence as a Markdown table that is legible as plain text too."""
    rows = [
        ("inputs", "n", "flagged (95 % interval)", "AUC (95 % interval)", "successful attacks", "flagged", "AUC"),
        ("clean", str(calibration.false_positives.n), str(calibration.false_positives), "", "", "", ""),
    ]
    for attack in (*calibration.attacks, *calibration.views):
        wins = attack.flagged_successful
        rows.append(
            (
                attack.name,
                str(attack.flagged.n),
                str(attack.flagged),
                str(attack.auc),
                _count(attack.successes) if wins is None else str(wins.n),
                "" if wins is None else str(wins),
                "" if attack.auc_successful is None else str(attack.auc_successful),
            )
        )
    return markdown.table(rows)


def _count(successes: int | None) -> str:
    """The number of successful attacks, where it is 0 or not known."""
    return "not known" if successes is None else "none"


def _text(bundle: Bundle, calibration: Calibration) -> str:
    """The report's page."""
    accuracy = "" if calibration.accuracy is None else f"- accuracy on clean images: {calibration.accuracy}\n"
    plots = "![ROC](roc.png)\n\n" if calibration.attacks else ""
    unattacked = f"Images that nobody attacked:\n\n{beside}\n\n" if (beside := honest(calibration)) else ""
    return (
        f"# Calibration of {bundle.name}\n\n"
        f"**Promise.** {promise(calibration)}\n\n"
        f"- score: {calibration.score}, lower is more suspicious; an image is flagged when its score is below the "
        f"threshold. Suspicious: {calibration.score_fitted.suspicious}\n"
        f"- threshold: {calibration.limit}, chosen as {calibration.target} on {len(calibration.clean_scores)} "
        "clean images\n"
        f"- confidence: {confidence(calibration)}\n"
        f"{accuracy}"
        "- p-values answer another question than the flag: flagging those up to a share flags that share of honest "
        "images "
        "on average over calibrations, not surely for this one\n"
        f"- measured on {calibration.execution_path}\n\n"
        "The rates below were measured on other images than those that chose the threshold. An attack is "
        "successful when the image was classified right before it and wrong after it: as its file says, or as the true "
        "classes do. In the worst case an image "
        "counts as flagged only if every attack on it is flagged.\n\n"
        f"{table(calibration)}\n\n"
        f"{_scores(calibration)}{unattacked}"
        "What this does not show: attacks that are not in the table, and above all an attacker who knows the "
        "detector and aims at keeping the score high. An AUC below 0.5 means that the attack looks more honest than "
        "honest images.\n\n"
        f"{plots}![scores](scores.png)\n\n"
        "Scores beyond an end of the axis (\u2264, \u2265) are drawn at it.\n\n"
        f"Bundle {bundle.digest[:16]}, calibration {calibration.digest[:16]}. Made by "
        f"`{calibration.provenance['command']}` on {calibration.provenance['time']}.\n"
    )


def _scores(calibration: Calibration) -> str:
    """Detection at small shares, every score beside the calibrated one, and the recommended one."""
    recommended = recommend(calibration)
    if recommended is None:
        return ""
    return (
        f"{detection(calibration)}\n\nThe scores on the same images:\n\n{comparison(calibration)}\n\n"
        f"Recommended: {recommended.score}. {recommended.reason}\n\n"
    )


def _roc(calibration: Calibration, clean: Floats, attacked: Mapping[str, Floats]) -> Figure:
    """ROC curves, the false alarms on a logarithmic axis, where services live."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    floor = 0.5 / len(clean)
    for position, attack in enumerate(calibration.attacks, start=1):  # the first colour is the clean images'
        fpr, tpr = curve(clean, attacked[attack.name])
        label = f"{attack.name}, AUC {attack.auc.value:.3f}"
        axes.step(np.maximum(fpr, floor), tpr, where="post", color=f"C{position}", label=label)
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color="0.7", linewidth=1, label="chance")
    rate = calibration.false_positives.rate
    axes.axvline(max(rate, floor), color="black", linestyle=":", label=f"threshold, {100 * rate:.1f} % false alarms")
    axes.set_xscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(0, 1.01)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel(f"clean images flagged ({len(clean)} images)")
    axes.set_ylabel("attacked images flagged")
    axes.legend(facecolor="white", edgecolor="white", framealpha=0.9, fontsize=9)
    return figure


def _histogram(calibration: Calibration, clean: Floats, attacked: Mapping[str, Floats]) -> Figure:
    """The score of clean and of attacked images, and the thresholds."""
    figure = Figure(figsize=(6.4, 1.5 + 1.3 * (1 + len(attacked))), layout="constrained")
    rows = figure.subplots(1 + len(attacked), 1, sharex=True, squeeze=False)[:, 0]
    shown = {"clean": clean, **attacked}
    flagged = [calibration.false_positives, *(attack.flagged for attack in calibration.attacks)]
    limits = np.array(calibration.thresholds or [calibration.threshold], dtype=np.float64)
    scale = scale_for(calibration.score, clean, list(attacked.values()), limits)
    for position, (axes, (name, scores)) in enumerate(zip(rows, shown.items(), strict=True)):
        weights = np.full(len(scores), 1 / len(scores))
        axes.hist(scale.place(scores), bins=scale.edges.tolist(), weights=weights, color=f"C{position}")
        axes.set_title(f"{name}: {100 * flagged[position].rate:.1f} % flagged", loc="left", fontsize=10)
        for limit in scale.place(limits).tolist():
            axes.axvline(limit, color="black", linestyle=":")
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
    rows[-1].set_xlim(scale.low, scale.high)
    rows[-1].set_xticks(*zip(*scale.ticks(), strict=True))
    rows[-1].set_xlabel(f"{calibration.score.replace('_', ' ')}   (suspicious \u2190 \u2192 honest; dotted: threshold)")
    return figure


def _save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150)
