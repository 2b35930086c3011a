"""The report of a calibration: what is promised, what is caught and what is not, with two plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from detector import markdown
from detector.bundle import Bundle
from detector.calibration import Calibration
from detector.files import replacing, write_bytes
from detector.prediction import Floats
from detector.rates import curve
from detector.targets import Explicit, TargetFpr, TargetTpr

# Log diversity runs from 0 down to minus infinity, and clean images lie close to 0: it is drawn as
# powers of ten, and what lies beyond the ends is drawn at the ends.
LEAST: Final = 1e-4
MOST: Final = 1e2
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
    """What the threshold promises, as a sentence."""
    target, n = calibration.target, len(calibration.clean_scores)
    match target:
        case TargetFpr(rate, delta):
            return (
                f"At most {100 * rate:g} % of honest images are flagged, with {100 * (1 - delta):g} % confidence, "
                f"as long as they are drawn like the {n} that chose the threshold."
            )
        case TargetTpr(rate, delta):
            return (
                f"At least {100 * rate:g} % of the images of each attack below are flagged, with "
                f"{100 * (1 - delta):g} % confidence, as long as the attacks stay as they are. "
                "There is no bound on false alarms."
            )
        case Explicit():
            return "There is none: the threshold was given by hand."


def table(calibration: Calibration) -> str:
    """The evidence as a Markdown table that is legible as plain text too."""
    rows = [
        ("inputs", "n", "flagged (95 % interval)", "AUC (95 % interval)", "successful attacks", "flagged", "AUC"),
        ("clean", str(calibration.false_positives.n), str(calibration.false_positives), "", "", "", ""),
    ]
    for attack in calibration.attacks:
        wins = attack.flagged_successful
        rows.append(
            (
                attack.name,
                str(attack.flagged.n),
                str(attack.flagged),
                str(attack.auc),
                "none" if wins is None else str(wins.n),
                "" if wins is None else str(wins),
                "" if attack.auc_successful is None else str(attack.auc_successful),
            )
        )
    return markdown.table(rows)


def _text(bundle: Bundle, calibration: Calibration) -> str:
    """The report's page."""
    accuracy = "" if calibration.accuracy is None else f"- accuracy on clean images: {calibration.accuracy}\n"
    plots = "![ROC](roc.png)\n\n" if calibration.attacks else ""
    return (
        f"# Calibration of {bundle.name}\n\n"
        f"**Promise.** {promise(calibration)}\n\n"
        f"- score: {calibration.score}, lower is more suspicious; an image is flagged when its score is below the "
        "threshold\n"
        f"- threshold: {calibration.threshold:.6g}, chosen as {calibration.target} on {len(calibration.clean_scores)} "
        "clean images\n"
        f"{accuracy}"
        f"- measured on {calibration.execution_path}\n\n"
        "The rates below were measured on other images than those that chose the threshold. An attack is "
        "successful when the image was classified right before it and wrong after it.\n\n"
        f"{table(calibration)}\n\n"
        "What this does not show: attacks that are not in the table, and above all an attacker who knows the "
        "detector and aims at keeping the score high. An AUC below 0.5 means that the attack looks more honest than "
        "honest images.\n\n"
        f"{plots}![scores](scores.png)\n\n"
        f"Bundle {bundle.digest[:16]}, calibration {calibration.digest[:16]}. Made by "
        f"`{calibration.provenance['command']}` on {calibration.provenance['time']}.\n"
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
    """The score of clean and of attacked images, and the threshold."""
    figure = Figure(figsize=(6.4, 1.5 + 1.3 * (1 + len(attacked))), layout="constrained")
    rows = figure.subplots(1 + len(attacked), 1, sharex=True, squeeze=False)[:, 0]
    bins = np.linspace(np.log10(LEAST), np.log10(MOST), 61)
    shown = {"clean": clean, **attacked}
    for position, (axes, (name, scores)) in enumerate(zip(rows, shown.items(), strict=True)):
        flagged = float((scores < calibration.threshold).mean())
        axes.hist(
            _place(scores), bins=bins.tolist(), weights=np.full(len(scores), 1 / len(scores)), color=f"C{position}"
        )
        axes.set_title(f"{name}: {100 * flagged:.1f} % flagged", loc="left", fontsize=10)
        axes.axvline(float(_place(np.array([calibration.threshold]))[0]), color="black", linestyle=":")
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines["left"].set_visible(False)
    _label_powers(rows[-1], calibration.score)
    return figure


def _place(scores: Floats) -> Floats:
    """Where a score is drawn: log10 of its negation, kept within the ends."""
    return np.asarray(np.log10(np.clip(-scores, LEAST * 1.001, MOST * 0.999)))


def _label_powers(axes: Axes, score: str) -> None:
    """Ticks as scores, the suspicious end on the left."""
    powers = np.arange(np.log10(LEAST), np.log10(MOST) + 1)
    names = [f"{-(10.0**power):g}" for power in powers]
    names[0], names[-1] = f"\u2265 {names[0]}", f"\u2264 {names[-1]}"
    axes.set_xticks(powers.tolist(), names)
    axes.set_xlim(float(powers[-1]), float(powers[0]))
    axes.set_xlabel(f"{score.replace('_', ' ')}   (suspicious \u2190 \u2192 honest; dotted: threshold)")


def _save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150)
