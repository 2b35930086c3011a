"""`detection.md`: Fig. 4 of the paper, ours, with what tells how far to trust it, and other detectors beside ours."""

import shlex
from collections.abc import Sequence
from typing import Final

from training.detection import tables
from training.detection.choose import LEFT
from training.detection.content import FILE, Content, Found
from training.detection.figures import Figures
from training.detection.findings import few_images, findings
from training.detection.goals import JUDGED, attack_by_attack, goals_table
from training.detection.peers import FILE as PEERS
from training.detection.peers import Peers
from training.detection.tables import SAW
from training.evaluation.command import shell
from training.robustness.gate import TARGET

_PAPER: Final = (
    "Section 4.5 of the paper tells 1,000 test images of CIFAR-10 from 1,000 adversarial ones by their ensemble "
    "diversity, on an ensemble trained with ADP<sub>2,0.5</sub>. Its text gives no parameter of its attacks, only that "
    "they are much larger than in Table 2 and make models misclassify at nearly 100 %; its AUCs stand in the picture "
    "only and are not available as text. So there is nothing here to stand beside ours but what we measured ourselves."
)

_HOW_TO_READ: Final = f"""\
- **Attacks** climb minus the log of the averaged probability of the true label (C&W and EAD minimise their own
  function of it), white box, against the whole ensemble. Their
  **strength** starts above the strongest of the paper's Table 2 and is the weakest at which the *validation* images of
  every run that is compared are right on at most {100 * LEFT:g} %; where no strength does that, the one that leaves
  least, and it is said. It was chosen by what is left right and never by a figure of detection, and it is the same for
  every run of a table. The test images chose nothing.
- **AUC** is the probability that an attacked image has a lower score than a clean one, ties counted half; below 0.5,
  attacks look more honest than honest images. Its 95 % interval is Newcombe's. Clean are test images, whether or not
  they are classified right; attacked are all attacked test images, or the **successful** ones, right before and wrong
  after. **TPR** is the largest share of attacked images that is flagged where at most {tables.AT.removesuffix(" FPR")}
  of the clean ones are, real points of the ROC curve.
- **worst case**: of the test images on which every attack was run, an image counts as detected only if it is detected
  under every one of them (MEAD, arXiv 2206.15415).
- The label left out of log diversity is the ensemble's own prediction. Scores that are fitted, and all thresholds, come
  from two disjoint halves of the clean calibration images; below a **threshold** at most {100 * TARGET.rate:.0f} % of
  clean images are flagged, with confidence {100 * (1 - TARGET.delta):.0f} %.
- **Bold is where ours lose**, figure by figure as it is shown: in the first table an ADP ensemble against our baseline,
  in the tables of a run a score of ours against another's detector.
"""

_AIMED: Final = (
    "Each attacker aims at one of our scores, knows what was fitted and the threshold, and "
    "wants images that are wrong *and* not flagged by it; attacks: {}. Images that are wrong without an attack count "
    "as wrong. Bold where an ADP ensemble does worse than our baseline."
)

_SEEN: Final = (
    "The same images under every detector, AUC of all of them: what an attack that is aimed at one score leaves to "
    "the others. An attack aimed at two at once may pass both. An area says nothing of who passes: such an attacker "
    "goes no further than to the threshold, and images may all lie just above it. The attacker of "
    "[docs/scores.md](../docs/scores.md#how-it-was-measured) goes on, to the median of clean images: of the same score "
    "on the same run the area is smaller there, and there it says who passes."
)

_GOALS: Final = (
    f"{JUDGED} is judged: the score that [docs/scores.md](../docs/scores.md) recommends, which was chosen on "
    "validation images of other runs. Other detectors count over the attacks that they were shown no image of."
)

_STRANGE: Final = (
    "Images of none of the classes, {} of each kind, that nobody attacked, flagged at the threshold, and the AUC "
    "against clean test images: pieces of the two photographs that come with scikit-learn, test images whose pieces "
    "change places, and noise, each pixel drawn evenly. More is better. Bold where another detector's is."
)

_OTHERS: Final = (
    f"{SAW}: it was shown images of that very attack, made from validation images, which none of ours is. "
    "Others' scores are turned so that lower is more suspicious, their thresholds chosen as ours are."
)


def figure_of(slug: str) -> str:
    """The file of an experiment's Fig. 4."""
    return f"fig4-{slug}.png"


def page(content: Content, peers: Peers | None) -> str:
    """The page, in Markdown.

    Args:
        content: What was measured.
        peers: Other detectors, if any were measured.
    """
    slugs = dict.fromkeys(found.slug for found in content.runs)
    sections = [_section([found for found in content.runs if found.slug == slug], peers) for slug in slugs]
    provenance = content.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    return "\n\n".join(
        [
            "# Fig. 4: telling attacked images from clean ones",
            f"{_PAPER} Every figure, with all settings of its attack, is in [{FILE}]({FILE})"
            f"{f', those of others in [{PEERS}]({PEERS})' * (peers is not None)}.",
            _HOW_TO_READ.rstrip(),
            *sections,
            *_left_out(peers),
            "---",
            f"Written by `{provenance['command']}` on {provenance['time']}, {provenance['machine']}; {versions}.\n",
        ]
    )


def _section(runs: Sequence[Found], peers: Peers | None) -> str:
    """One experiment."""
    heads = [_head(run, runs) for run in runs]
    others = [() if peers is None else peers.of(run) for run in runs]
    first = runs[0]
    parts = [
        f"## {first.title}",
        f"{first.images['clean']:,} clean test images, right on {_list(heads, [str(run.right) for run in runs])}. "
        f"Scores were fitted on {first.images['fit']:,} calibration images, thresholds chosen on "
        f"{first.images['behind']:,} others. Computed on {', '.join(dict.fromkeys(run.machine for run in runs))}.",
        findings(runs, heads),
        "### Goals",
        _GOALS,
        goals_table(runs, heads, others),
        f"Under each attack, the AUC of {JUDGED} and of the best of the others; bold where that is better:",
        attack_by_attack(runs, heads, others),
        "### The attacks",
        tables.strengths(runs, heads),
        *filter(None, [few_images(runs, heads)]),
        f"![Fig. 4: ROC of log diversity]({figure_of(first.slug)})",
        "The paper's score, log diversity, in figures:",
        tables.log_diversity(runs, heads),
        *(part for each in zip(runs, heads, others, strict=True) for part in _run(*each)),
        "### Attackers who know the detector",
        _AIMED.format(", ".join(dict.fromkeys(each.settings["attack"]["name"] for run in runs for each in run.aimed))),
        tables.aimed(runs, heads),
    ]  # fmt: skip
    missing = [run for run, there in zip(runs, others, strict=True) if not there]
    return "\n\n".join([*parts, *([_compare(missing)] if missing else [])])


def _run(run: Found, head: str, others: Sequence[Figures]) -> list[str]:
    """Every detector on one run."""
    return [
        f"### {head}: every score{' and other detectors' * bool(others)}",
        _worst_case(run, others),
        *([_OTHERS] if others else []),
        "AUC, all attacked images:",
        tables.detectors(run, others, tables.AUC),
        "AUC, successful attacks only:",
        tables.detectors(run, others, tables.AUC_SUCCESSFUL),
        f"TPR in % at {tables.AT}, all attacked images:",
        tables.detectors(run, others, tables.TPR),
        f"TPR in % at {tables.AT}, successful attacks only:",
        tables.detectors(run, others, tables.TPR_SUCCESSFUL),
        f"False alarms: flagged at the threshold, of clean test images as they are, and of {run.images['changed']:,} "
        "of them after mild changes that are no attack. Bold where another detector flags fewer.",
        tables.false_alarms(run, others),
        _STRANGE.format(run.figures[0].strange[0].flagged.n),
        tables.strangers(run, others),
        _SEEN,
        tables.seen_by(run, others),
    ]  # fmt: skip


def _worst_case(run: Found, others: Sequence[Figures]) -> str:
    """In a sentence, who comes out best of the worst case."""
    best = tables.best_in_worst_case(run.figures)
    said = f"In the worst case over attacks the best of our scores is {best[0]}, AUC {best[1]:.3f}"
    if not others:
        return f"{said}."
    other = tables.best_in_worst_case(others)
    verdict = "**it does better**" if f"{other[1]:.3f}" > f"{best[1]:.3f}" else "it does no better"
    return f"{said}; the best of the others is {other[0]}, AUC {other[1]:.3f}: {verdict}."


def _head(run: Found, runs: Sequence[Found]) -> str:
    """The setting; with its seed where there are several."""
    several = len({other.seed for other in runs}) > 1
    return f"{run.setting.markdown}{f', seed {run.seed}' * several}"


def _list(heads: Sequence[str], texts: Sequence[str]) -> str:
    """`A 1, B 2`."""
    return ", ".join(f"{text} ({head})" for head, text in zip(heads, texts, strict=True))


def _compare(runs: Sequence[Found]) -> str:
    """How to put other detectors beside ours."""
    data = [] if runs[0].dataset == "digits" else ["--data-root", "DATA"]
    words = shlex.join(["-m", "benchmarks.detectors", *(f"runs/{run.name}" for run in runs), *data, "--out", "results"])
    lines = [f"scripts/{name} && .venv-{name}/bin/python {words}" for name in ("peers", "peers-detection")]
    return (
        "Other detectors were not run on these images. This runs them, and writes this page anew:\n\n"
        f"{shell(chr(10).join(lines))}"
    )


def _left_out(peers: Peers | None) -> list[str]:
    """Detectors that are missing, and why."""
    if peers is None or not peers.left_out:
        return []
    return ["Left out: " + "; ".join(f"{name}, {why}" for name, why in peers.left_out.items()) + "."]
