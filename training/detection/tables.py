"""The tables of `detection.md`: figures with their intervals, bold where ours lose."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

from detector.evidence import FPRS, WORST_CASE, AttackEvidence, Tprs
from detector.markdown import table
from detector.rates import Auc, Rate
from training.detection.content import Attacked, Found
from training.detection.figures import Figures
from training.paper import BASELINE
from training.robustness.accuracies import NAMES

NONE: Final = "-"
SAW: Final = "\u2020"
_OURS: Final = "ours: "
_BETWEEN: Final = " / "
AT: Final = f"{_BETWEEN.join(f'{100 * fpr:g}' for fpr in FPRS)} % FPR"

_WHAT: Final = ("AUC", "AUC, successful", f"TPR in % at {AT}", "TPR, successful")

Measure = Callable[[AttackEvidence], Auc | Tprs | None]
# What a table shows of an attack: all attacked images, or the successful ones.
AUC: Final[Measure] = attrgetter("auc")
AUC_SUCCESSFUL: Final[Measure] = attrgetter("auc_successful")
TPR: Final[Measure] = attrgetter("tpr")
TPR_SUCCESSFUL: Final[Measure] = attrgetter("tpr_successful")


def name(method: str) -> str:
    """An attack, or the worst case, for people."""
    return NAMES.get(method, method)


def strengths(runs: Sequence[Found], heads: Sequence[str]) -> str:
    """Every attack with its strength, and what it leaves of validation and of test images."""
    rows = [["attack", "strength", "settings", "also tried", "images"]]
    rows[0] += [f"{head}, {what}" for head in heads for what in ("validation: right", "test: right", "mean change")]
    for attacks in zip(*(run.attacks for run in runs), strict=True):
        first = attacks[0]
        mark = "" if first.reached else ", **which leaves more than 1 %**"
        others = ", ".join(rung.name for rung in first.tried if rung.name != first.name) or "none"
        row = [name(first.method), f"{first.name}{mark}", _settings(first), others, f"{first.right.n:,}"]
        for attack in attacks:
            row += [str(attack.validation), str(attack.right), _change(attack)]
        rows.append(row)
    return table(rows)


def log_diversity(runs: Sequence[Found], heads: Sequence[str]) -> str:
    """The paper's score on every run, bold where one does worse than the baseline beside it."""
    rows = [["attack", *(f"{head}, {what}" for head in heads for what in _WHAT)]]
    baselines = [baseline_of(run, runs) for run in runs]
    for method in (*(attack.method for attack in runs[0].attacks), WORST_CASE):
        row = [name(method)]
        for run, baseline in zip(runs, baselines, strict=True):
            ours = log_diversity_of(run).of(method)
            theirs = None if baseline is None else log_diversity_of(baseline).of(method)
            row += [
                cell(measure(ours), [None if theirs is None else measure(theirs)])
                for measure in (AUC, AUC_SUCCESSFUL, TPR, TPR_SUCCESSFUL)
            ]
        rows.append(row)
    return table(rows)


def detectors(run: Found, peers: Sequence[Figures], measure: Measure) -> str:
    """Every score of ours and every other detector on a run, ours bold where another's does better."""
    methods = [*(attack.method for attack in run.attacks), WORST_CASE]
    rows = [["detector", *(f"{name(method)}, n = {_n(run, method, measure)}" for method in methods)]]
    for figures in run.figures:
        others = [[measure(peer.of(method)) for peer in peers] for method in methods]
        shown = [cell(measure(figures.of(method)), beside) for method, beside in zip(methods, others, strict=True)]
        rows.append([f"{_OURS}{figures.detector}", *shown])
    rows += [
        [peer.detector, *(f"{cell(measure(peer.of(each)), [])}{_saw(peer, each)}" for each in methods)]
        for peer in peers
    ]
    return table(rows)


def false_alarms(run: Found, peers: Sequence[Figures]) -> str:
    """What each detector flags of clean test images, as they are and mildly changed; ours bold where another's less."""
    names = [seen.name for seen in run.figures[0].changed]
    rows = [["detector", "fitted on", "clean", *names]]
    others = [_alarms(peer) for peer in peers]
    for figures in run.figures:
        beside = zip(*others, strict=True) if others else [()] * (1 + len(names))
        shown = [_rate(rate, column) for rate, column in zip(_alarms(figures), beside, strict=True)]
        rows.append([f"{_OURS}{figures.detector}", figures.fitted_on, *shown])
    rows += [[peer.detector, peer.fitted_on, *map(str, _alarms(peer))] for peer in peers]
    return table(rows)


def strangers(run: Found, peers: Sequence[Figures]) -> str:
    """What each detector makes of images of none of the classes, ours bold where another's is better."""
    names = [seen.name for seen in run.figures[0].strange]
    rows = [["detector", *(f"{name}, {what}" for name in names for what in ("flagged", "AUC"))]]
    for figures in (*run.figures, *peers):
        ours, row = figures in run.figures, [f"{_OURS * (figures in run.figures)}{figures.detector}"]
        for place, seen in enumerate(figures.strange):
            others = [peer.strange[place] for peer in peers] if ours else []
            share = f"{100 * seen.flagged.rate:.1f}"
            fewer = any(float(f"{100 * other.flagged.rate:.1f}") > float(share) for other in others)
            row += [_bold(str(seen.flagged), fewer, share), cell(seen.auc, [other.auc for other in others])]
        rows.append(row)
    return table(rows)


def aimed(runs: Sequence[Found], heads: Sequence[str]) -> str:
    """Someone who knows a score, on every run; bold where one does worse than the baseline beside it."""
    rows = [["aimed at", "images"]]
    rows[0] += [f"{head}, {what}" for head in heads for what in ("wrong", "wrong and not flagged by it")]
    for place, attack in enumerate(runs[0].aimed):
        row = [attack.score, f"{attack.wrong.n:,}"]
        for run in runs:
            ours, baseline = run.aimed[place], baseline_of(run, runs)
            theirs = None if baseline is None else baseline.aimed[place]
            row += [
                _rate(getattr(ours, share), [] if theirs is None else [getattr(theirs, share)])
                for share in ("wrong", "unnoticed")
            ]
        rows.append(row)
    return table(rows)


def seen_by(run: Found, peers: Sequence[Figures]) -> str:
    """What every detector makes of images that were aimed at one of ours: the AUC."""
    rows = [["detector", *(f"aimed at {each.score}" for each in run.aimed)]]
    rows += [[f"{_OURS}{each.detector}", *(str(other.auc) for other in each.aimed)] for each in run.figures]
    rows += [[peer.detector, *(str(other.auc) for other in peer.aimed)] for peer in peers]
    return table(rows)


def cell(found: Auc | Tprs | None, others: Sequence[Auc | Tprs | None]) -> str:
    """A figure, bold where one of the others' is higher as it is shown; of several shares, each by itself."""
    if found is None:
        return NONE
    known = [_shown(other) for other in others if other is not None]
    text = str(found) if isinstance(found, Auc) else _BETWEEN.join(_shown(found))
    parts = text.split(_BETWEEN)
    for place, shown in enumerate(_shown(found)):
        worse = any(float(other[place]) > float(shown) for other in known)
        parts[place] = _bold(parts[place], worse, shown)
    return _BETWEEN.join(parts)


def _shown(found: Auc | Tprs) -> list[str]:
    """The numbers that are compared, as they are shown."""
    return [f"{found.value:.3f}"] if isinstance(found, Auc) else [f"{100 * share:.1f}" for share in found]


def _bold(text: str, bold: bool, what: str) -> str:
    """The text with its figure bold, if it is to be."""
    return text.replace(what, f"**{what}**", 1) if bold else text


def _rate(rate: Rate, others: Sequence[Rate]) -> str:
    """A share of which less is better, bold where one of the others' is lower as it is shown."""
    text = f"{100 * rate.rate:.1f}"
    return _bold(str(rate), any(float(f"{100 * other.rate:.1f}") < float(text) for other in others), text)


def _alarms(figures: Figures) -> list[Rate]:
    """What is flagged that nobody attacked."""
    return [figures.clean, *(seen.flagged for seen in figures.changed)]


def _saw(figures: Figures, method: str) -> str:
    """A mark at the attacks that a detector was shown images of."""
    return f" {SAW}" if method in figures.seen else ""


def _n(run: Found, method: str, measure: Measure) -> str:
    """How many images a column is about."""
    evidence = run.figures[0].of(method)
    every = measure in (AUC, TPR)
    rate = evidence.flagged if every else evidence.flagged_successful
    return "0" if rate is None else f"{rate.n:,}"


def _settings(attack: Attacked) -> str:
    """All of an attack's settings, as in `eps 0.3, steps 10`."""
    own = {key.replace("_", " "): value for key, value in attack.settings.items() if key not in ("name", "method")}
    return ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in own.items())


def _change(attack: Attacked) -> str:
    """How far the successful images were moved."""
    norms = attack.norms
    return f"L2 {norms['l2']:.2f}, Linf {norms['linf']:.2f}" if norms else NONE


def log_diversity_of(run: Found) -> Figures:
    """The paper's score."""
    return next(figures for figures in run.figures if figures.detector == "log_diversity")


def baseline_of(run: Found, runs: Sequence[Found]) -> Found | None:
    """The baseline to compare a run with: of its seed, or else the first; None for a baseline."""
    baselines = [other for other in runs if other.setting.weights == BASELINE]
    if run in baselines:
        return None
    return next((other for other in baselines if other.seed == run.seed), baselines[0] if baselines else None)


def best_in_worst_case(detectors: Sequence[Figures]) -> tuple[str, float]:
    """Whose AUC is highest, and that."""
    best = max(detectors, key=lambda each: each.of(WORST_CASE).auc.value)
    return best.detector, best.of(WORST_CASE).auc.value
