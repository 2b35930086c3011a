"""The images nearest the threshold, against a twin that sorts all of them; and how few are read."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from detector.imageset import Images, ImageSet
from detector.page.nearest import COUNT, Nearest
from detector.page.scored import Scored
from detector.prediction import Floats, Ints
from detector.source import Selection
from detector.threshold import Threshold
from tests.conftest import make_images

NAMES = ("cat", "dog")


class Counting(ImageSet):
    """Counts the images that are asked for."""

    taken = 0

    def take(self, rows: Ints) -> Images:
        type(self).taken += len(rows)
        return super().take(rows)


def scored(scores: Floats, classes: Ints | None = None, images: ImageSet | None = None, first: int = 0) -> Scored:
    rows = np.arange(first, first + len(scores))
    source = images or ImageSet(images=make_images(int(rows[-1]) + 1))
    classes = np.zeros(len(scores), dtype=np.int64) if classes is None else classes
    return Scored(images=Selection(source=source, rows=rows), scores=scores, classes=classes)


def test_the_nearest_against_the_twin() -> None:
    generator = np.random.default_rng(0)
    threshold = Threshold(by_class=(-0.5, -0.2))
    sets = {name: scored(generator.normal(size=90), generator.integers(2, size=90)) for name in ("a", "b")}
    found = Nearest.of(sets, threshold, NAMES)
    every = sorted(
        (score - (-0.5, -0.2)[label], name, score)
        for name, one in sets.items()
        for score, label in zip(one.scores.tolist(), one.classes.tolist(), strict=True)
    )
    below = [(name, score) for margin, name, score in every if margin < 0][-COUNT:]
    above = [(name, score) for margin, name, score in every if margin >= 0][:COUNT]
    assert [(one.kind, one.score) for one in found.flagged] == below
    assert [(one.kind, one.score) for one in found.passed] == above


def test_no_more_images_are_read_than_may_be_shown() -> None:
    images = Counting(images=make_images(500))
    Nearest.of({"": scored(np.random.default_rng(0).normal(size=500), images=images)}, Threshold(overall=0.0), NAMES)
    assert images.taken == 2 * COUNT


def test_at_the_threshold_an_image_passes() -> None:
    found = Nearest.of({"": scored(np.array([-2.0, -1.0, -0.0]))}, Threshold(overall=-1.0), NAMES)
    assert [one.score for one in found.flagged] == [-2.0]
    assert [one.score for one in found.passed] == [-1.0, 0.0]


@pytest.mark.parametrize(("limit", "flagged"), [(-np.inf, 0), (np.inf, 3)], ids=["none", "all"])
def test_an_infinite_threshold(limit: float, flagged: int) -> None:
    found = Nearest.of({"": scored(np.array([-np.inf, -1.0, 0.0]))}, Threshold(overall=limit), NAMES)
    assert (len(found.flagged), len(found.passed)) == (flagged, 3 - flagged)


def test_an_image_tells_what_it_is() -> None:
    pixels = np.arange(3 * 6 * 4, dtype=np.uint8).reshape(1, 3, 6, 4)
    images = ImageSet(images=np.repeat(pixels, 5, axis=0), labels=np.array([0, 0, 0, 0, 1]))
    (shown,) = Nearest.of({"": scored(np.array([-3.0]), images=images, first=4)}, Threshold(overall=0.0), NAMES).flagged
    assert (shown.name, shown.answer, shown.truth, shown.margin) == ("image 4", "cat", "dog", -3.0)
    kind, _, content = shown.uri.partition(",")
    assert kind == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    np.testing.assert_array_equal(picture, pixels[0].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 400, 200), (80, 160)), ((5, 8, 8), (8, 8)), ((3, 32, 32), (32, 32))], ids=str
)
def test_images_of_any_kind_are_shown(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    images = ImageSet(images=make_images(1, shape=shape))
    (shown,) = Nearest.of({"": scored(np.array([0.0]), images=images)}, Threshold(overall=0.0), NAMES).passed
    assert (shown.width, shown.height) == size
