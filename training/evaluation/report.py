"""Writes what was measured: `table1.md`, `table1.json`, and for each experiment Fig. 5 and Fig. 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from tqdm import tqdm

from detector.document import Record
from detector.files import write_bytes
from detector.provenance import provenance
from detector.sample import sample
from training.evaluation.experiment import Experiment
from training.evaluation.figure import save
from training.evaluation.hidden import hidden_features
from training.evaluation.histogram import histogram
from training.evaluation.page import page
from training.evaluation.result import Result
from training.evaluation.scatter import MEMBERS, POINTS, Embedding, check_points, embed, scatter
from training.evaluation.setting import Setting
from training.execution import THREADS, reproducible
from training.splits import take

PAGE: Final = "table1.md"
RESULTS: Final = "table1.json"
_SEED: Final = 0


class Results(Record):
    """`table1.json`.

    Attributes:
        provenance: What measured: command, time, versions, machine.
        results: Of every run, sorted by data set, settings and seed.
    """

    provenance: dict[str, Any]
    results: tuple[Result, ...]


def write_report(
    folder: Path,
    experiments: Sequence[Experiment],
    *,
    points: int = POINTS,
    progress: bool = True,
    threads: int = THREADS,
) -> Results:
    """Writes the page, the figures and the JSON into a folder.

    Args:
        folder: Made if it is not there; files of these names are replaced.
        experiments: What was measured.
        points: Test images in Fig. 2, drawn at random; all where there are fewer.
        progress: Whether to show a bar on standard error, if that is a terminal.
        threads: CPU threads, at least 1.

    Returns:
        What the JSON has.

    Raises:
        InputError: Too few points, or threads.
    """
    check_points(points)
    results = Results(
        provenance=provenance("torch", "torchvision"),
        results=tuple(run.result for experiment in experiments for run in experiment.evaluations),
    )
    pictures = {}
    panels = sum(_shown(experiment) * len(experiment.settings) for experiment in experiments)
    with tqdm(total=panels, desc="t-SNE", unit="panel", disable=None if progress else True) as bar, \
            reproducible(threads):  # fmt: skip
        for experiment in experiments:
            name = f"fig5-{experiment.slug}.png"
            save(_figure5(experiment), folder / name)
            pictures[experiment.slug] = (
                f"![Fig. 5: log diversity]({name})\n\n{_figure2(experiment, folder, points, bar)}"
            )
    write_bytes(folder / RESULTS, results.model_dump_json(indent=2).encode() + b"\n")
    write_bytes(folder / PAGE, page(experiments, pictures, results.provenance).encode())
    return results


def _figure5(experiment: Experiment) -> Figure:
    """Histograms of log diversity."""
    scores = {setting: run.log_diversity for setting, run in experiment.first().items()}
    count = len(next(iter(scores.values())))
    return histogram(scores, f"{experiment.title}, {count:,} test images")


def _figure2(experiment: Experiment, folder: Path, points: int, bar: "tqdm[Any]") -> str:
    """Draws t-SNE embeddings; returns what the page says."""
    dataset = experiment.evaluations[0].dataset
    test = take(dataset, "test")
    images = sample(test, min(points, len(test)), seed=_SEED)
    embeddings: dict[Setting, list[Embedding]] = {}
    for setting, run in experiment.first().items():
        ensemble, _ = run.run.trained()
        embeddings[setting] = []
        for member in range(_shown(experiment)):
            features = hidden_features(ensemble, images, member)
            if features is None:
                return "No Fig. 2: these networks do not end in a linear layer, whose input it would show."
            embeddings[setting].append(embed(features, seed=_SEED))
            bar.update()
    name = f"fig2-{experiment.slug}.png"
    title = f"{experiment.title}: t-SNE of last hidden features, {len(images):,} test images"
    assert images.labels is not None
    save(scatter(embeddings, images.labels, dataset.class_names, title), folder / name)
    members = experiment.config.members
    first = f" of the first {MEMBERS} of {members} nets" if members > MEMBERS else ""
    return (
        f"![Fig. 2: t-SNE of hidden features]({name})\n\n"
        f"t-SNE (seed {_SEED}) of the last hidden features{first}, the input of the last linear layer, for "
        f"{len(images):,} of {len(test):,} test images, drawn with seed {_SEED}; colours are true classes. Each panel "
        "has an embedding of its own, so that place and turn mean nothing: what can be compared is how classes lie to "
        "each other. The paper's Fig. 2 shows all test images of CIFAR-10, and finds the baseline's nets alike and "
        "ADP's much more different."
    )


def _shown(experiment: Experiment) -> int:
    """Nets that Fig. 2 shows."""
    return min(MEMBERS, experiment.config.members)
