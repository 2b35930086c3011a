"""Does a model that is fitted on attacks find one that it was not shown better than a score fitted on clean images?

    ledgate evaluate RUN ... --parts detection --out results
    python -m benchmarks.leave_one_out RUN ... --out results

Boosted trees (scikit-learn's, as they come, classes weighted evenly) learn to tell clean from attacked images by the
eleven statistics of typicality, with and without the distance of mahalanobis, from all of the paper's attacks but one,
and are judged on that one: an AUC. All images are validation images: those that strengths were chosen on, and clean
ones, in two halves by source image; each half is judged by trees that were fitted on the other, and the two areas are
averaged. Mahalanobis, fitted on clean calibration images, is judged on the very same halves.
"""

import sys
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.detectors import Bench
from benchmarks.measured import parser, report
from detector.imageset import ImageSet
from detector.markdown import table
from detector.outputs import Outputs
from detector.parts import draw
from detector.prediction import Floats
from detector.rates import Auc
from detector.scores.statistics import statistics
from training.detection.counts import CLEAN
from training.detection.subject import Subject, sources_of
from training.detection.tables import name

ALONE: Final = "trees on the statistics"
WITH: Final = "trees on the statistics and mahalanobis"
OURS: Final = "mahalanobis"
_SEED: Final = 0

Known = tuple[Floats, NDArray[np.bool_]]
"""Of some images (n, 12), the statistics and mahalanobis last, and which are of the first half."""


def known(subject: Subject, images: ImageSet, first: Set[Any]) -> Known:
    """What trees are told of images, and which half each belongs to."""
    logits = subject.logits(images)
    values = np.column_stack([statistics(Outputs(logits)), subject.scores[OURS].of(logits)])
    return values, np.array([source in first for source in sources_of(images)])


def areas(clean: Known, attacked: Mapping[str, Known], left_out: str) -> dict[str, float]:
    """The AUC under an attack that the trees were not shown, the mean over both halves."""
    found: dict[str, list[float]] = {ALONE: [], WITH: [], OURS: []}
    for half in (True, False):
        shown = [clean, *(each for method, each in attacked.items() if method != left_out)]
        fit = np.concatenate([values[is_first == half] for values, is_first in shown])
        is_attacked = np.arange(len(fit)) >= np.count_nonzero(clean[1] == half)
        honest, others = (values[is_first != half] for values, is_first in (clean, attacked[left_out]))
        for design, columns in ((ALONE, slice(-1)), (WITH, slice(None))):
            trees = HistGradientBoostingClassifier(class_weight="balanced", random_state=_SEED)
            trees.fit(fit[:, columns], is_attacked)
            scores = [-trees.decision_function(each[:, columns]) for each in (honest, others)]
            found[design].append(Auc.of(*scores).value)
        found[OURS].append(Auc.of(honest[:, -1], others[:, -1]).value)
    return {design: float(np.mean(each)) for design, each in found.items()}


def measure(bench: Bench, shown: int) -> dict[str, Any]:
    """Every attack of a run left out in turn."""
    subject = bench.subject
    validation = subject.images("validation", CLEAN)
    first = draw(sources_of(validation), 0.5, _SEED, part="first")
    clean = known(subject, validation, first)
    images = {method: make() for method, make in bench.case(1, shown).shown.items()}
    attacked = {method: known(subject, each, first) for method, each in images.items()}
    return {
        "run": bench.found.name,
        "clean": len(validation),
        "images": {method: len(each) for method, each in images.items()},
        "auc": {method: areas(clean, attacked, method) for method in attacked},
    }


def shown_as(found: dict[str, Any]) -> str:
    """A run's figures, for people; Markdown."""
    methods = list(found["auc"])
    rows = [["design", "mean", *(f"{name(method)}, n = {found['images'][method]}" for method in methods)]]
    for design in (OURS, ALONE, WITH):
        each = [found["auc"][method][design] for method in methods]
        rows.append([design, f"{np.mean(each):.3f}", *(f"{area:.3f}" for area in each)])
    return f"{found['run']}, {found['clean']:,} clean images:\n\n{table(rows)}"


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    assert __doc__ is not None
    line = parser("leave_one_out", __doc__)
    line.add_argument(
        "--shown", type=int, default=100, metavar="N",
        help="images under FGSM, BIM, PGD and MIM; under the others those that strengths were chosen on "
             "(default: 100)",
    )  # fmt: skip
    options = line.parse_args(words)
    return report("leave_one_out", options, lambda bench, _: measure(bench, options.shown), shown_as)


if __name__ == "__main__":
    sys.exit(main())
