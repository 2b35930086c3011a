"""Other detectors on the images that ours were measured on: `benchmarks.detectors`."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.detectors import main
from benchmarks.peers.detectors.squeezing import FeatureSqueezing, bits, median, non_local_means
from detector.imageset import ImageSet
from training import Run
from training.detection.content import Content
from training.detection.peers import Peers

RNG = np.random.default_rng(3)
IMAGES = RNG.random((2, 3, 6, 5), dtype=np.float32)
NAME = "feature-squeezing: joint"


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    return folder


def test_they_stand_in_the_same_tables_and_are_not_measured_twice(
    run: Run, copied: Path, small_ladders: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run.path), "--detectors", "feature-squeezing", "--device", "cpu", "--out", str(copied)]
    assert main(words) == 0
    assert "1 more detectors beside ours" in capsys.readouterr().out
    found = Peers.load(copied / "detectors.json")
    content = Content.load(copied / "detection.json")
    measured = next(each for each in content.runs if each.name == run.path.name)
    (figures,) = found.of(measured)
    assert figures.detector == NAME
    assert [each.name for each in figures.attacks] == [each.name for each in measured.figures[0].attacks]
    assert figures.clean.n == measured.figures[0].clean.n
    assert f"| {NAME} " in (copied / "detection.md").read_text("utf-8")
    assert set(found.left_out) == {"pytorch-ood", "art", "alibi-detect"}
    assert main(words) == 0
    assert "0 more detectors beside ours" in capsys.readouterr().out


def test_images_that_are_gone_are_missed(run: Run, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(each for each in Content.load(copied / "detection.json").runs if each.name == run.path.name).attacks[0]
    (copied / "detection-images" / file.file).unlink()
    assert main([str(run.path), "--detectors", "feature-squeezing", "--out", str(copied)]) == 1
    assert file.file in capsys.readouterr().err


def test_a_run_that_was_not_measured_is_refused(
    run: Run, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = Content.load(copied / "detection.json")
    others = tuple(each for each in content.runs if each.name != run.path.name)
    Content(provenance={}, runs=others).save(copied / "detection.json")
    assert main([str(run.path), "--detectors", "feature-squeezing", "--out", str(copied)]) == 1
    assert "run 'ledgate evaluate" in capsys.readouterr().err


def test_squeezed_images_have_so_many_bits_and_a_squares_median() -> None:
    assert set(np.unique(bits(IMAGES, 1))) == {0, 1}
    assert len(np.unique(bits(IMAGES, 2))) == 4
    square = np.pad(IMAGES, [(0, 0), (0, 0), (1, 0), (1, 0)], "symmetric")
    for row in range(6):
        for column in range(5):
            four = np.sort(square[:, :, row : row + 2, column : column + 2].reshape(2, 3, 4), axis=2)
            np.testing.assert_array_equal(median(IMAGES)[:, :, row, column], four[:, :, 2])  # the upper of the two


def test_non_local_means_are_the_slow_and_obvious_ones() -> None:
    search, patch, strength = 3, 3, 40.0
    found = non_local_means(IMAGES, search, patch, strength)
    exact = IMAGES.astype(np.float64)
    around = np.pad(exact, [(0, 0), (0, 0), (2, 2), (2, 2)], "reflect")
    image, row, column = 1, 3, 2  # away from the edge
    own = around[image, :, row + 1 : row + 4, column + 1 : column + 4]
    total, weight = np.zeros(3), 0.0
    for down in range(3):
        for right in range(3):
            other = around[image, :, row + down : row + down + 3, column + right : column + right + 3]
            each = np.exp(-((own - other) ** 2).mean() / (strength / 255) ** 2)
            total += each * other[:, 1, 1]
            weight += each
    np.testing.assert_allclose(found[image, :, row, column], total / weight, rtol=1e-5)


def test_the_score_is_the_largest_way_that_the_prediction_moves() -> None:
    def predict(images: np.ndarray) -> np.ndarray:
        share = images.mean(axis=(1, 2, 3), dtype=np.float64)
        return np.stack([share, 1 - share], axis=1)

    judge = FeatureSqueezing(predict, [lambda images: images, lambda images: images * np.float32(0.5)])
    np.testing.assert_allclose(judge.score(ImageSet(images=IMAGES)), -IMAGES.mean(axis=(1, 2, 3)), rtol=1e-6)
