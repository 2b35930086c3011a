"""Which score: designs beside each other on attacks that none of them was fitted on, on images that nobody attacked,
and under an attacker who knows the design.

    python -m benchmarks.scores RUN RUN --data-root data --split test --out scores.json --page docs/scores.md

Designs are fitted on one half of the calibration part, thresholds chosen on the other (at most 5 % of clean images,
with confidence 95 %), and all figures are of another part: of `validation` to choose a design, once of `test` to
report. The attacks are strong enough to fool the ensemble; no design sees one. "Lowered" is the threshold that also
spares mildly changed images, as `ledgate calibrate --changed-fpr 0.1` chooses it. The page's tables, between its two
comments, are replaced by those of these runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.ending import finish
from benchmarks.score_aware import aimed
from benchmarks.score_designs import AIMED_AT, Design, Learnt, Logits, OneOf, View, designs, views
from benchmarks.score_tables import put, table
from detector.files import replacing
from detector.imageset import ImageSet, as_floats
from detector.parts import draw
from detector.prediction import Floats, mean_prediction
from detector.provenance import provenance
from detector.rates import Auc
from detector.sample import sample
from detector.shifts import MILD, Shift
from detector.sparing import sparing_target
from detector.targets import TargetFpr
from training.attacked import attack
from training.attacks import BIM, EAD, FGSM, JSMA, MIM, PGD, Attack, CarliniWagner
from training.datasets import load
from training.execution import describe_machine, reproducible
from training.splits import take
from training.trainer import predict
from training.victim import Victim

TARGET: Final = TargetFpr(0.05)
CHANGED: Final = 0.1
AWARE_EPS: Final = {1: 0.15, 3: 8 / 255}
"""By channels: digits, photographs."""
_BATCH: Final = 50

GREY: Final[tuple[Attack, ...]] = (
    FGSM(eps=0.3),
    BIM(eps=0.3, steps=10, step_size=0.06),
    PGD(eps=0.3, steps=10, step_size=0.06),
    MIM(eps=0.3, steps=10, step_size=0.06),
    CarliniWagner(c=100.0, steps=100, learning_rate=0.05),
    EAD(c=100.0, steps=100, learning_rate=0.02),
    JSMA(theta=1.0, gamma=0.1),
)
COLOUR: Final[tuple[Attack, ...]] = (
    FGSM(eps=0.1),
    BIM(eps=0.06, steps=10, step_size=0.015),
    PGD(eps=0.06, steps=10, step_size=0.015),
    MIM(eps=0.06, steps=10, step_size=0.015),
    CarliniWagner(c=10.0, steps=100, learning_rate=0.02),
    EAD(c=10.0, steps=100, learning_rate=0.02),
    JSMA(theta=1.0, gamma=0.3),
)


class Study:
    """A run, and what its members answer to all images of the study.

    Args:
        run: Its folder.
        options: As `parse` returns them.
    """

    def __init__(self, run: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.victim = Victim.open(run, device=options.device)
        self.dataset = load(self.victim.run.config.dataset, root=options.data_root)
        channels = self.victim.checkpoint.image_shape[0]
        self.views: tuple[View, ...] = views(channels)
        self.attacks = GREY if channels == 1 else COLOUR
        self.eps = AWARE_EPS[1 if channels == 1 else 3]

    def images(self, split: str, n: int) -> ImageSet:
        """Some of a part, always the same; smaller samples are part of larger ones."""
        part = take(self.dataset, split)
        return sample(part, min(n, len(part)), seed=self.options.seed)

    def logits(self, name: str, images: ImageSet, change: Shift | None = None) -> Logits:
        """(V, N, K, L), of the images after a change; kept in the cache under the name."""
        return self._cached(f"{name}-logits", lambda: {"logits": self.answers(images, change)})["logits"]

    def attacked(self, settings: Attack) -> ImageSet:
        """Attacked images of the reported part."""
        few = settings.method in {"cw", "ead", "jsma"}
        images = self.images(self.options.split, self.options.few if few else self.options.n)
        name = f"{self.options.split}-{len(images)}-{settings.name}"

        def make() -> dict[str, Any]:
            done = attack(self.victim.run, images, settings, batch_size=_BATCH, device=self.options.device)
            return {"images": done.images, "success": done.success}

        kept = self._cached(name, make)
        return ImageSet(
            images=kept["images"], success=kept["success"], labels=images.labels, source_index=images.source_index
        )

    def answers(self, images: ImageSet, change: Shift | None) -> Logits:
        """The members' answers to images and their views; an image's number is its place."""
        plain = as_floats(images.images)
        if change is not None:
            plain = np.stack([change.apply(image, number) for number, image in enumerate(plain)])
        found = []
        for view in (None, *(view.change for view in self.views)):
            seen = plain if view is None else np.stack([view.apply(image, n) for n, image in enumerate(plain)])
            with reproducible(1, self.victim.device):
                found.append(predict(self.victim.ensemble, ImageSet(images=seen), batch_size=_BATCH))
        return np.stack(found)

    def _cached(self, name: str, make: Any) -> dict[str, NDArray[Any]]:
        """What was made before under this name, for this run."""
        key = f"{self.victim.digest[:12]}-seed{self.options.seed}-{name}".replace(" ", "_")
        path = self.options.cache / f"{key}.npz"
        if not path.exists():
            made = make()
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part, part.open("wb") as file:
                np.savez_compressed(file, **made)
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}


def measure(run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fits, attacks, counts; returns what the JSON has of one run."""
    study = Study(run, options)
    calibration = study.images("calibration", options.calibration)
    rows = [int(row) for row in calibration.rows]
    is_fit = np.isin(rows, list(draw(rows, 0.5, options.seed, "fit")))
    fit, behind = calibration.only(is_fit), calibration.only(~is_fit)
    size = f"{len(calibration)}"
    learnt = Learnt(study.logits(f"fit-{size}", fit), study.logits(f"fit-{size}-changed", fit, OneOf(MILD)))
    chosen_on = study.logits(f"behind-{size}", behind)
    some = sample(behind, min(options.changed, len(behind)), seed=options.seed)
    spared = [study.logits(f"behind-{size}-{len(some)}-{shift.name}", some, shift) for shift in MILD]
    clean = study.images(options.split, options.clean)
    shown = sample(clean, min(options.changed, len(clean)), seed=options.seed)
    name = f"{options.split}-{len(clean)}"
    ours = study.logits(name, clean)
    changed = {s.name: study.logits(f"{name}-{len(shown)}-{s.name}", shown, s) for s in MILD}
    attacked = {
        settings.name: study.attacked(settings) for settings in tqdm(study.attacks, desc="attacks", disable=None)
    }
    answers = {each: study.logits(f"{options.split}-{len(one)}-{each}", one) for each, one in attacked.items()}
    every = designs(learnt)
    figures = {}
    for design in every:
        threshold = TARGET.threshold(design.of(chosen_on), [])
        wanted = sparing_target(TARGET, CHANGED, len(MILD))
        lowered = min([threshold, *(wanted.threshold(design.of(each), []) for each in spared)])
        scores = design.of(ours)
        figures[design.name] = {
            "runs": design.runs,
            "clean_flagged": _shares(scores, threshold, lowered),
            "changed_flagged": {key: _shares(design.of(each), threshold, lowered) for key, each in changed.items()},
            "attacks": {key: _under(scores, design.of(each), attacked[key], threshold, lowered)
                        for key, each in answers.items()},
        }  # fmt: skip
        if design.name in AIMED_AT and options.aware:
            figures[design.name]["aware"] = _aware(study, design, scores, threshold)
    return {
        "run": study.victim.run.path.name,
        "split": options.split,
        "seed": options.seed,
        "images": {"fit": len(fit), "threshold": len(behind), "clean": len(clean), "changed": len(shown),
                   "attacked": {key: len(one) for key, one in attacked.items()}, "aware": options.aware},
        "accuracy": {"clean": _accuracy(ours, clean), **{key: _accuracy(answers[key], one)
                                                         for key, one in attacked.items()}},
        "target": str(TARGET),
        "aware_eps": study.eps,
        "designs": figures,
        "machine": describe_machine(study.victim.device, 1),
        "provenance": provenance("torch", "torchvision"),
    }  # fmt: skip


def _under(clean: Floats, scores: Floats, images: ImageSet, *thresholds: float) -> dict[str, Any]:
    """Under one attack: the AUC with its interval, of all images and of the successful ones, and what is flagged."""
    assert images.success is not None
    successful = scores[images.success]
    return {
        "auc": Auc.of(clean, scores).model_dump(),
        "auc_successful": Auc.of(clean, successful).model_dump() if len(successful) else None,
        "successful": len(successful),
        "flagged": _shares(scores, *thresholds),
    }


def _aware(study: Study, design: Design, clean: Floats, threshold: float) -> dict[str, float]:
    """Under an attacker who knows the design: of each image the wrong answer with the highest score."""
    images = study.images(study.options.split, study.options.aware)
    assert images.labels is not None
    device = study.victim.device
    with reproducible(1, device):
        torch.manual_seed(study.options.seed)
        found = aimed(
            design, study.victim.ensemble, study.views, torch.from_numpy(as_floats(images.images)).to(device),
            torch.from_numpy(images.labels).to(device), images.rows, eps=study.eps, steps=study.options.steps,
        )  # fmt: skip
    scores, wrongs = [], []
    for each in found:
        logits = study.answers(ImageSet(images=each.cpu().numpy()), None)
        scores.append(design.of(logits))
        wrongs.append(mean_prediction(logits[0]).argmax(axis=1) != images.labels)
    values, wrong = np.stack(scores), np.stack(wrongs)
    best = np.where(wrong, values, -np.inf).argmax(axis=0)[None]
    value, is_wrong = np.take_along_axis(values, best, 0)[0], np.take_along_axis(wrong, best, 0)[0]
    return {
        "wrong": float(is_wrong.mean()),
        "wrong_and_not_flagged": float((is_wrong & (value >= threshold)).mean()),
        "auc": Auc.of(clean, value).value,
    }


def _shares(scores: Floats, *thresholds: float) -> list[float]:
    """Share below each threshold: the one of clean images, and the lowered one."""
    return [float((scores < threshold).mean()) for threshold in thresholds]


def _accuracy(logits: Logits, images: ImageSet) -> float:
    """Share that the ensemble classifies right."""
    return float((mean_prediction(logits[0]).argmax(axis=1) == images.labels).mean())


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scores", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, on MNIST or CIFAR-10")
    add("--data-root", type=Path, metavar="DIR", help="where their data sets lie")
    add("--cache", type=Path, default=Path("scores-cache"), metavar="DIR",
        help="where attacked images and logits are kept (default: scores-cache)")  # fmt: skip
    add(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="what is reported on (default: validation)",
    )
    add("--n", type=int, default=200, metavar="N", help="images under FGSM, BIM, PGD, MIM (default: 200)")
    add("--few", type=int, default=40, metavar="N", help="under C&W, EAD, JSMA (default: 40)")
    add("--aware", type=int, default=40, metavar="N", help="under the attacker who knows; 0 for none (default: 40)")
    add("--steps", type=int, default=30, metavar="N", help="of that attacker (default: 30)")
    add("--clean", type=int, default=2000, metavar="N", help="clean images (default: 2000)")
    add("--changed", type=int, default=600, metavar="N", help="of them, and of the threshold's, mildly changed too "
        "(default: 600)")  # fmt: skip
    add("--calibration", type=int, default=2500, metavar="N", help="half to fit, half for thresholds (default: 2500)")
    add("--device", default="cpu", help="cpu, cuda, cuda:N, or auto (default: cpu)")
    add("--seed", type=int, default=0, help="of all draws (default: 0)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    add("--page", type=Path, metavar="FILE", help="put the tables into this page")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints, writes."""
    options = parse(words)
    found = [measure(run, options) for run in options.runs]
    tables = "\n\n".join(map(table, found))
    if options.page is not None:
        put(options.page, tables)
    return finish({"runs": found}, tables, options.out)


if __name__ == "__main__":
    sys.exit(main())
