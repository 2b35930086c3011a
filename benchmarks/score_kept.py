"""Designs of scores on the attacked images that `ledgate evaluate` keeps: of validation to choose, of test to report.

    ledgate evaluate RUN ... --parts detection --out results
    python -m benchmarks.score_kept RUN ... --out results --split test

Designs that run the members once for an image, on the images of results/detection.md: mean AUCs over the attacks, of
all attacked images and of the successful ones. They are fitted on the calibration images that the page's scores were.
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from benchmarks.detectors import Bench
from benchmarks.measured import parser, report
from benchmarks.score_designs import Learnt, design
from detector.markdown import table
from detector.rates import Auc
from training.detection.counts import CLEAN
from training.detection.kept import Kept
from training.detection.tables import name

NAMES: Final = (
    "typicality",
    "mahalanobis",
    "mahalanobis less half of that to all classes",
    "lower rank of mahalanobis and relative mahalanobis",
    "lower rank of mahalanobis and log diversity",
)


def measure(bench: Bench, kept: Kept, split: str) -> dict[str, Any]:
    """All designs on one run's images."""
    subject = bench.subject
    fit = subject.logits(subject.fit)[None]
    clean = subject.images(split, CLEAN)
    files = {each.method: each.file if split == "test" else each.chosen_on for each in bench.found.attacks}
    attacked = {method: kept.load(file) for method, file in files.items()}
    honest, answers = subject.logits(clean)[None], {key: subject.logits(each)[None] for key, each in attacked.items()}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for each in (design(wanted, Learnt(fit, fit)) for wanted in NAMES):
        scores = each.of(honest)
        figures[each.name] = {"all": {}, "successful": {}}
        for method, images in attacked.items():
            found, success = each.of(answers[method]), images.success
            assert success is not None
            figures[each.name]["all"][method] = Auc.of(scores, found).value
            if success.any():
                figures[each.name]["successful"][method] = Auc.of(scores, found[success]).value
    return {"run": bench.found.name, "split": split, "clean": len(clean),
            "images": {key: len(each) for key, each in attacked.items()}, "designs": figures}  # fmt: skip


def shown(found: dict[str, Any]) -> str:
    """A run's figures, for people; Markdown."""
    images = found["images"]
    rows = [["design", "mean", "mean, successful", *(f"{name(key)}, n = {n}" for key, n in images.items())]]
    for design_name, areas in found["designs"].items():
        means = [f"{np.mean(list(areas[which].values())):.3f}" for which in ("all", "successful")]
        rows.append([design_name, *means, *(f"{areas['all'][key]:.3f}" for key in images)])
    return f"{found['run']}, {found['clean']:,} clean {found['split']} images:\n\n{table(rows)}"


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    assert __doc__ is not None
    line = parser("score_kept", __doc__)
    line.add_argument(
        "--split", choices=("validation", "test"), default="validation", help="of which part (default: validation)"
    )
    options = line.parse_args(words)
    return report("score_kept", options, lambda bench, kept: measure(bench, kept, options.split), shown)


if __name__ == "__main__":
    sys.exit(main())
