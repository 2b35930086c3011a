"""Which attacks succeeded: as a file says, or as the classes of the clean images do; and where nobody knows, that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.evidence import AttackEvidence
from detector.imageset import ImageSet
from detector.inputs import open_images
from detector.parts import draw
from detector.targets import TargetFpr
from ledgate.cli import main
from tests.conftest import make_images

COUNT = 200
INDEX = np.arange(COUNT)
PIXELS = (make_images(COUNT, seed=2) * 255).astype(np.uint8)
ATTACKED = (make_images(COUNT, seed=2) ** 3 * 255).astype(np.uint8)


@pytest.fixture
def classes(bundle: Bundle) -> Callable[[Any], Any]:
    detector = Detector(bundle, device="cpu", threads=1)
    return lambda images: detector.classify(images).labels


@pytest.fixture
def labels(classes: Callable[[Any], Any]) -> Any:
    """True classes: the ensemble is wrong about every third clean image, and right about every fifth attacked one."""
    truth = np.where(INDEX % 3 == 0, (classes(PIXELS) + 1) % 10, classes(PIXELS))
    return np.where(INDEX % 5 == 0, classes(ATTACKED), truth)


def run(bundle: Bundle, clean: Any, attacked: Any) -> AttackEvidence:
    found = calibrate(bundle.path, clean=clean, adversarial={"own": attacked}, target=TargetFpr(0.2), device="cpu")
    return found.attacks[0]


def reporting() -> Any:
    return np.isin(INDEX, sorted(draw(INDEX.tolist(), 0.5, 0)))


@pytest.mark.parametrize("labelled", ["both", "clean alone", "attacked alone"])
def test_an_archive_that_does_not_say_against_the_twin(
    bundle: Bundle, classes: Callable[[Any], Any], labels: Any, labelled: str
) -> None:
    """The README's form: images, labels and source_index."""
    clean = ImageSet(images=PIXELS, source_index=INDEX, labels=None if labelled == "attacked alone" else labels)
    order = np.random.default_rng(0).permutation(COUNT)
    own = None if labelled == "clean alone" else labels[order]
    found = run(bundle, clean, ImageSet(images=ATTACKED[order], source_index=order, labels=own))
    expected = (classes(PIXELS) == labels) & (classes(ATTACKED) != labels) & reporting()
    assert 0 < expected.sum() < reporting().sum()
    assert found.successes == expected.sum()
    assert found.flagged_successful is not None
    assert found.flagged_successful.n == expected.sum()


def test_a_folder(bundle: Bundle, tmp_path: Path, classes: Callable[[Any], Any], labels: Any) -> None:
    for name, images in (("clean", PIXELS), ("own", ATTACKED)):
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            path = tmp_path / name / f"class {label}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(path)
    sets = {name: open_images(tmp_path / name, bundle) for name in ("clean", "own")}
    found = run(bundle, sets["clean"], sets["own"])
    names = [f"class {label}/{number:03d}" for number, label in enumerate(labels.tolist())]
    here = np.isin(names, sorted(map(str, draw(names, 0.5, 0))))
    assert found.successes == ((classes(PIXELS) == labels) & (classes(ATTACKED) != labels) & here).sum()


def test_an_archive_that_says_is_believed(bundle: Bundle, labels: Any) -> None:
    clean = ImageSet(images=PIXELS, source_index=INDEX, labels=labels)
    own = ImageSet(images=ATTACKED, source_index=INDEX, labels=labels, success=INDEX % 7 == 0)
    assert run(bundle, clean, own).successes == (reporting() & (INDEX % 7 == 0)).sum()


@pytest.mark.parametrize("case", ["no labels", "an image whose clean one is not here"])
def test_where_it_is_not_known(
    bundle: Bundle, tmp_path: Path, labels: Any, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = case != "no labels"
    clean = ImageSet(images=PIXELS, source_index=INDEX, labels=labels if strange else None)
    clean.save(tmp_path / "clean.npz")
    index = np.where(INDEX == 3, 1000, INDEX) if strange else INDEX
    own = replace(clean, images=ATTACKED, source_index=index)
    own.save(tmp_path / "own.npz")
    found = run(bundle, clean, own)
    assert (found.successes, found.flagged_successful) == (None, None)
    words = ("--clean", tmp_path / "clean.npz", "--adversarial", tmp_path / "own.npz", "--target-fpr", 0.2)
    report = ("--device", "cpu", "--report", tmp_path / "report")
    assert main(["calibrate", str(bundle.path), *map(str, (*words, *report))]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| own") and "not known" in line]
    assert row.split("|")[5].strip() == "not known"
    assert ">not known<" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_where_none_succeeded(
    bundle: Bundle, classes: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from detector.report import table

    clean = ImageSet(images=PIXELS, source_index=INDEX, labels=classes(PIXELS))
    attacks = {name: replace(clean, images=PIXELS) for name in ("one", "two")}
    found = calibrate(bundle.path, clean=clean, adversarial=attacks, target=TargetFpr(0.2), device="cpu")
    views = (*found.attacks, *found.views)
    assert [view.successes for view in views] == [0] * 4
    rows = [line.split("|")[5].strip() for line in table(found).splitlines()[3:]]
    assert rows == ["none"] * 4
