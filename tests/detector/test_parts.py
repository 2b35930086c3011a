"""Which images come from one source, and the draw of the sources that report."""

import numpy as np
import pytest

from detector.errors import InputError
from detector.imageset import ImageSet
from detector.parts import Sources
from tests.conftest import SHAPE, make_images

PIXELS = np.random.default_rng(0).integers(0, 256, size=(6, *SHAPE), dtype=np.uint8)
FLOATS = PIXELS.astype(np.float32) / np.float32(255)


def test_by_index_where_every_set_has_one() -> None:
    clean = ImageSet(images=PIXELS, source_index=np.array([7, 7, 1, 2, 3, 4]))
    attacked = ImageSet(images=make_images(3), source_index=np.array([7, 9, 2]))
    sources = Sources([clean], [("fgsm", attacked)])
    assert sources.of(clean) == [7, 7, 1, 2, 3, 4]
    assert sources.among(attacked, {7, 2}).tolist() == [True, False, True]


def test_by_pixels_of_the_clean_image_otherwise() -> None:
    """uint8 and the floats that a model makes of it are one image; an attacked image goes by its clean one."""
    clean = ImageSet(images=PIXELS, source_index=np.arange(6))
    attacked = ImageSet(images=make_images(3), clean=FLOATS[[4, 4, 0]])
    sources = Sources([clean], [("fgsm", attacked)])
    behind = {sources.of(clean)[4]}
    assert sources.among(attacked, behind).tolist() == [True, True, False]
    assert len(set(sources.of(clean))) == 6
    nudged = PIXELS.copy()
    nudged[4, 0, 0, 0] ^= 1
    assert not sources.among(ImageSet(images=nudged), behind).any()


@pytest.mark.parametrize("indexed", [True, False])
def test_a_set_whose_sources_cannot_be_told_is_named(indexed: bool) -> None:
    clean = ImageSet(images=PIXELS, source_index=np.arange(6) if indexed else None)
    known = ImageSet(images=FLOATS, clean=FLOATS, source_index=np.arange(6))
    unknown = ImageSet(images=FLOATS, source_index=None if indexed else np.arange(6))
    with pytest.raises(InputError, match=r"^bim: expected the array 'clean', or 'source_index' in every"):
        Sources([clean], [("fgsm", known), ("bim", unknown)])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.75])
def test_the_draw_is_of_sources(fraction: float) -> None:
    clean = ImageSet(images=make_images(100), source_index=np.repeat(np.arange(20), 5))
    sources = Sources([clean], [])
    drawn = sources.draw(clean, fraction, seed=0)
    assert len(drawn) == round(fraction * 20)
    assert sources.among(clean, drawn).sum() == 5 * len(drawn)


def test_the_draw_depends_on_the_seed_and_the_sources_only() -> None:
    clean = ImageSet(images=make_images(100), source_index=np.arange(100))
    shuffled = clean.only(np.ones(100, dtype=np.bool_))
    order = np.random.default_rng(1).permutation(100)
    shuffled = ImageSet(images=clean.images[order], source_index=order)
    draws = [Sources([one], []).draw(one, 0.5, seed) for seed in (0, 1) for one in (clean, shuffled)]
    assert draws[0] == draws[1]
    assert draws[2] == draws[3]
    assert draws[0] != draws[2]


def test_the_draw_by_pixels_repeats() -> None:
    clean = ImageSet(images=make_images(50))
    assert Sources([clean], []).draw(clean, 0.5, 3) == Sources([clean], []).draw(clean, 0.5, 3)


@pytest.mark.parametrize(
    ("fraction", "seed", "count", "reason"),
    [
        (0.0, 0, 6, "report fraction: expected a number between 0 and 1, found 0"),
        (1.0, 0, 6, "report fraction: expected a number between 0 and 1, found 1"),
        (float("nan"), 0, 6, "report fraction: expected a number between 0 and 1, found nan"),
        (0.5, -1, 6, "seed: expected at least 0, found -1"),
        (0.5, 0, 1, "expected enough for a threshold and a report part, found 1 different"),
        (0.01, 0, 6, "expected enough for a threshold and a report part, found 6 different"),
    ],
)
def test_refused(fraction: float, seed: int, count: int, reason: str) -> None:
    clean = ImageSet(images=PIXELS[:count])
    with pytest.raises(InputError, match=reason):
        Sources([clean], []).draw(clean, fraction, seed)
