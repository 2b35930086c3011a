"""Our attacks find what the field's libraries find, on the same ensemble and images and in the same settings.

The libraries' figures are in ../reference, made by `scripts/reference`, which installs and runs them; here only ours
run. Where a library's version differs, its figures say in which way, and whether it finds less for that; then ours
has to find no less.
"""

from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from detector.square import Square
from tests.training.attacks import reference
from training.attacks import PGD

FOUND = reference.found_by_libraries()
CASES = FOUND["cases"]
# One more or less of a hundred images; of the mean norm of the changes so large a share.
IMAGES_APART = 1.0
NORMS_APART = 0.02
# Which only one library does right; AutoAttack is another one's besides.
ALONE = ("autoattack", "jsma")


def test_the_figures_are_of_this_ensemble() -> None:
    assert FOUND["ensemble"] == sha256((reference.HOME / "ensemble.npz").read_bytes()).hexdigest()


def test_the_ensemble_answers_every_image_right() -> None:
    images, labels = reference.reference_images()
    assert len(images) == 100
    wrong = reference.successes(images, reference.objective_of("away", labels), reference.reference_ensemble())
    assert not wrong.any()


def test_every_attack_is_compared_with_two_libraries() -> None:
    for name, case in CASES.items():
        assert len(case["libraries"]) >= (1 if name.startswith(ALONE) else 2), name


@pytest.mark.parametrize(
    "name",
    # AutoAttack asks 5,000 times about every image that it does not fool.
    [pytest.param(name, marks=pytest.mark.slow if name.startswith("autoattack") else ()) for name in CASES],
)
def test_ours_finds_what_libraries_find(name: str) -> None:
    success, norms = ours(name)
    for library, found in CASES[name]["libraries"].items():
        more = success.sum(axis=1).mean() - found["success"]
        if found.get("weaker"):
            assert more >= 0, library
        else:
            assert abs(more) <= IMAGES_APART, library
            assert norms[success].mean() == pytest.approx(found["mean_norm"], rel=NORMS_APART), library


@pytest.mark.parametrize("name", [name for name in CASES if "'norms'" in str(CASES[name])])
def test_ours_agrees_image_by_image(name: str) -> None:
    """In the median: in some long descents it is rounding that decides which way an image goes."""
    success, norms = ours(name)
    for library, found in CASES[name]["libraries"].items():
        theirs = np.array(found["norms"], dtype=np.float64)  # NaN where it fails
        both = success[0] & ~np.isnan(theirs)
        assert np.median(norms[0][both] / theirs[both]) == pytest.approx(1, abs=1e-3), library


@cache
def ours(name: str) -> tuple[Any, Any]:
    """Which images are successes, and the norms of the changes: (seeds, N) each."""
    case = CASES[name]
    ensemble, settings = reference.reference_ensemble(), reference.settings_of(case["settings"])
    images, labels = reference.reference_images(case["images"])
    objective = reference.objective_of(case["aim"], labels)
    success, norms = [], []
    for seed in range(min(case["seeds"], 5 if isinstance(settings, Square) else 25)):
        once = replace(settings, seed=seed) if isinstance(settings, (PGD, Square)) else settings
        attacked = reference.ours(once, ensemble, images, objective)
        success.append(reference.successes(attacked, objective, ensemble))
        norms.append(reference.sizes(attacked, images, case["norm"]))
    return np.stack(success), np.stack(norms)
