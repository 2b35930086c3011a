"""Measures what is asked for, as far as it is not kept, and writes `detection.json`, `detection.md` and Fig. 4."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from detector.files import write_bytes
from detector.prediction import Floats
from detector.provenance import provenance
from training.detection.content import FILE, Content, Found
from training.detection.kept import Kept
from training.detection.material import Answers
from training.detection.measure import Bench, How, Measured
from training.detection.page import figure_of, page
from training.detection.peers import Peers
from training.detection.picture import picture
from training.evaluation.duration import duration
from training.evaluation.experiment import Experiment
from training.evaluation.figure import save
from training.evaluation.setting import Setting
from training.execution import THREADS
from training.robustness.cost import gradients, one_gradient
from training.robustness.counts import Counts

PAGE: Final = "detection.md"
_TIMED: Final = 256


def write_detection(
    folder: Path,
    experiments: Sequence[Experiment],
    counts: Counts,
    *,
    device: str = "cpu",
    progress: bool = True,
    threads: int = THREADS,
) -> Content:
    """Writes the page, the figures and the JSON into a folder.

    Args:
        folder: Made if it is not there. Attacked images that its cache has are not computed again. Runs that its
            `detection.json` has are shown as well, unless they or others of their experiment's slug are measured
            now: what is in one table was attacked alike.
        experiments: The runs; each experiment's are attacked alike.
        counts: How many test images are attacked.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.
        progress: Whether to show bars on standard error, if that is a terminal; what there is to do is said anyway.
        threads: CPU threads, at least 1.

    Returns:
        What the JSON has.

    Raises:
        CalibrationError: A data set with too few calibration images.
        InputError: A `detection.json` that is none of ours, or no such device.
    """
    earlier, kept = Content.beside(folder), Kept(folder)
    how = How(device=device, threads=threads, progress=progress)
    benches = [Bench(experiment, kept, counts, how) for experiment in experiments]
    found: list[Found] = []
    bar: tqdm[Any]
    with tqdm(total=_tell(benches), desc="attacks", unit="attack", disable=None if progress else True) as bar:
        for bench in benches:
            measured = bench.measure(bar)
            found += [each.found for each in measured]
            _draw(bench.experiment, measured, folder)
    content = Content(provenance=provenance("torch"), runs=(*_others(earlier, found), *found)).save(folder / FILE)
    write_page(folder, content)
    return content


def _others(earlier: Sequence[Found], found: Sequence[Found]) -> list[Found]:
    """Those of earlier calls that belong to other experiments."""
    slugs, runs = {each.slug for each in found}, {each.run for each in found}
    return [each for each in earlier if each.slug not in slugs and each.run not in runs]


def write_page(folder: Path, content: Content) -> None:
    """Writes the page from what is measured, with other detectors' figures where there are any beside it.

    Args:
        folder: With `detectors.json`, if that is to be shown.
        content: What is measured.

    Raises:
        InputError: A `detectors.json` that is none of ours.
    """
    write_bytes(folder / PAGE, page(content, Peers.read(folder)).encode())


def _draw(experiment: Experiment, measured: Sequence[Measured], folder: Path) -> None:
    """Fig. 4, of the lowest seed of each setting."""
    first: dict[Setting, Answers[Floats]] = {}
    for each in measured:
        first.setdefault(each.found.setting, each.scores["log_diversity"])
    clean = len(next(iter(first.values())).clean)
    title = f"{experiment.title}: ROC of log diversity, {clean:,} clean test images"
    save(picture(first, title), folder / figure_of(experiment.slug))


def _tell(benches: Sequence[Bench]) -> int:
    """Says how much there is to do, and how long it may take; returns how many sets of images, at most."""
    pending = [each for bench in benches for each in bench.pending()]
    if not pending:
        return 0
    took = {
        subject.digest: one_gradient(subject.victim, subject.images("validation", _TIMED), threads=subject.threads)
        for subject in dict.fromkeys(subject for subject, _, _ in pending)
    }
    whole = sum(
        took[subject.digest] * count * gradients(attack, math.prod(subject.victim.checkpoint.image_shape))
        for subject, attack, count in pending
    )
    print(
        f"at most {len(pending)} sets of images to attack on {pending[0][0].victim.device}, at most about "
        f"{duration(whole)}; what is finished is kept",
        file=sys.stderr,
    )
    return len(pending)
