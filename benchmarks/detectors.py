"""Other detectors on the very images that ours were measured on, in the same table.

    ledgate evaluate RUN ... --parts detection --out results
    scripts/peers && .venv-peers/bin/python -m benchmarks.detectors RUN ... --out results
    scripts/peers-detection && .venv-peers-detection/bin/python -m benchmarks.detectors RUN ... --out results

The first keeps its attacked images in results/detection-images. The second reads them and asks every detector of
`benchmarks/peers/detectors` whose library is installed about them, the third alibi-detect's, which needs an environment
of its own. Each writes results/detectors.json as soon as a detector is done, leaves alone what is in it about those
images, and writes results/detection.md anew. `scripts/figure4` is all three.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from benchmarks.peers.detectors import MAKERS, Case, Detector, maker, missing
from detector.errors import InputError, LedgateError
from detector.imageset import ImageSet
from detector.provenance import provenance
from training.attacks import Attack, LinfAttack
from training.commands.data_root import add_data_root
from training.datasets import Dataset, load
from training.detection.content import FILE as FIGURES
from training.detection.content import Attacked, Content, Found
from training.detection.counts import CLEAN
from training.detection.figures import Figures, figures
from training.detection.kept import Kept
from training.detection.ladder import ladders
from training.detection.material import Material
from training.detection.peers import FILE, Beside, Peers
from training.detection.report import PAGE, write_page
from training.detection.subject import AIM, Subject
from training.execution import THREADS, reproducible
from training.run import Run

TRAIN: Final = 10_000
SHOWN: Final = 500
# The autoencoder takes ten gradients of each image.
AUTOENCODED: Final = 2_000
_SEED: Final = 0
_ENVIRONMENT: Final = "scripts/peers"
_ENVIRONMENTS: Final = {"alibi-detect": "scripts/peers-detection"}
_VERSIONS: Final = ("torch", "pytorch-ood", "adversarial-robustness-toolbox", "alibi-detect", "tensorflow")


class Bench:
    """A run, with the images that its detectors were measured on.

    Args:
        subject: The run.
        found: What was measured of it.
        kept: The images.

    Raises:
        InputError: Images that are gone, or others.
    """

    def __init__(self, subject: Subject, found: Found, kept: Kept) -> None:
        self.subject, self.found, self._kept = subject, found, kept
        self.material = Material(
            behind=subject.behind,
            clean=subject.images("test", CLEAN),
            attacked={each.method: kept.load(each.file) for each in found.attacks},
            aimed={each.score: kept.load(each.file) for each in found.aimed},
        )
        if self.material.digest != found.material:
            raise InputError(
                f"{kept.folder}: expected the images that {FIGURES} was measured on, found others; run 'ledgate "
                "evaluate' again"
            )

    def case(self, train: int, shown: int) -> Case:
        """What detectors may learn from.

        Args:
            train: Training images, fewer where there are fewer.
            shown: Validation images under each attack that takes few gradients; of the others those that are kept.
        """
        return Case(
            subject=self.subject,
            train=self.subject.images("train", train),
            shown={each.method: partial(self._shown, each, shown) for each in self.found.attacks},
            seed=_SEED,
        )

    def _shown(self, attacked: Attacked, count: int) -> ImageSet:
        """Attacked validation images."""
        rungs = ladders(self.subject.run.config)[attacked.method]
        attack: Attack = next(rung for rung in rungs if rung.name == attacked.name)
        if not isinstance(attack, LinfAttack):
            return self._kept.load(attacked.chosen_on)
        file = self._kept.file(self.subject.run, attack, self.subject.task(attack, "validation", count), "validation")
        images = self.subject.images("validation", count)
        return self._kept.attacked(
            file, self.subject.run, images, attack, aim=AIM, device=self.subject.device, threads=self.subject.threads
        )

    def detectors(self, names: Sequence[str], train: int, shown: int) -> dict[str, Callable[[], Detector]]:
        """What fits the detectors of some libraries, by their names; see `case`."""
        found: dict[str, Callable[[], Detector]] = {}
        for name in names:
            most = min(AUTOENCODED, train) if name == "alibi-detect" else train
            found |= maker(name)(self.case(most, shown))
        return found

    def measure(self, name: str, fit: Callable[[], Detector]) -> Figures:
        """One detector's figures."""
        judge = fit()
        scores = self.material.ask(judge.score)
        return figures(name, scores, self.material, fitted_on=judge.fitted_on, seen=judge.seen)


def opened(options: argparse.Namespace, content: Content, kept: Kept) -> list[Bench]:
    """The runs with their images; a data set is read once.

    Raises:
        InputError: A run that was not measured.
    """

    @cache
    def dataset(name: str, image_size: int) -> Dataset:
        return load(name, root=options.data_root, image_size=image_size)

    benches = []
    for path in options.run_folders:
        run = Run.open(path)
        subject = Subject(
            run, dataset(run.config.dataset, run.config.image_size), device=options.device, threads=options.threads
        )
        found = next((each for each in content.runs if each.run == subject.digest), None)
        if found is None:
            raise InputError(
                f"{path}: expected a run that is in {options.out / FIGURES}, found another; run 'ledgate evaluate "
                f"{path} --parts detection --out {options.out}' first"
            )
        benches.append(Bench(subject, found, kept))
    return benches


def known(before: Peers | None, bench: Bench) -> set[str]:
    """The detectors whose figures on a run's images are there."""
    return set() if before is None else {each.detector for each in before.of(bench.found)}


def merged(before: Peers | None, bench: Bench, found: Figures) -> Peers:
    """What is known of other detectors, with one more on a run; what is of other images of that run is dropped."""
    rest = () if before is None else tuple(each for each in before.runs if each.run != bench.found.run)
    own = {each.detector: each for each in (() if before is None else before.of(bench.found))}
    own[found.detector] = found
    figures_of = tuple(own[name] for name in sorted(own))
    beside = Beside(run=bench.found.run, material=bench.found.material, figures=figures_of)
    notes = {} if before is None else before.provenance["versions"]
    made = provenance(*_VERSIONS)
    return Peers(provenance={**made, "versions": {**notes, **made["versions"]}}, left_out={}, runs=(*rest, beside))


def with_left_out(peers: Peers) -> Peers:
    """With the detectors that were not run everywhere, and how to."""
    ran = set.intersection(*({each.detector.split(":")[0] for each in run.figures} for run in peers.runs))
    how = {
        name: f"not run on every ensemble; {_ENVIRONMENTS.get(name, _ENVIRONMENT)} installs what it takes"
        for name in MAKERS
    }
    return peers.model_copy(update={"left_out": {name: why for name, why in how.items() if name not in ran}})


def measure(options: argparse.Namespace) -> int:
    """Every detector that is asked for and not there, on every run; returns how many that were."""
    content = Content.load(options.out / FIGURES)
    todo = []
    for bench in opened(options, content, Kept(options.out)):
        there = () if options.again else known(Peers.read(options.out), bench)
        fits = bench.detectors(options.detectors, options.train, options.shown)
        todo += [(bench, name, fit) for name, fit in fits.items() if name not in there]
    bar: tqdm[Any]
    with tqdm(todo, desc="detectors", unit="detector", disable=None) as bar:
        for bench, name, fit in bar:
            found = bench.measure(name, fit)
            with_left_out(merged(Peers.read(options.out), bench, found)).save(options.out / FILE)
            bar.write(f"{bench.found.name}: {name}")
    write_page(options.out, content)
    return len(todo)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    there = [name for name in MAKERS if not missing(name)]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detectors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run_folders", type=Path, nargs="+", metavar="RUN", help="runs that 'ledgate evaluate' has measured")
    add_data_root(parser)
    add("--detectors", nargs="+", choices=tuple(MAKERS), metavar="NAME", default=there,
        help=f"of {', '.join(MAKERS)} (default: those that are installed, {', '.join(there)})")  # fmt: skip
    add("--train", type=int, default=TRAIN, metavar="N",
        help=f"training images to fit on, the autoencoder on at most {AUTOENCODED:,} (default: {TRAIN:,})")  # fmt: skip
    add("--shown", type=int, default=SHOWN, metavar="N",
        help="validation images under FGSM, BIM, PGD and MIM for detectors that are shown attacks; under the other "
             f"attacks those that strengths were chosen on (default: {SHOWN})")  # fmt: skip
    add("--again", action="store_true", help=f"measure anew what {FILE} has")
    add("--device", default="auto", help="cpu, cuda, cuda:N, or auto: a CUDA device where there is one (default: auto)")
    add("--threads", type=int, default=THREADS, metavar="N", help=f"CPU threads (default: {THREADS})")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder that 'ledgate evaluate' wrote")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measures and writes."""
    options = parse(words)
    started = time.perf_counter()
    try:
        with reproducible(options.threads):
            count = measure(options)
    except LedgateError as error:
        print(f"benchmarks.detectors: {error}", file=sys.stderr)
        return 1
    print(f"{options.out / PAGE}: {count} more detectors beside ours, in {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
