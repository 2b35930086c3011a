"""Which images come from one source, and the draw of the sources that report."""

import numpy as np
import pytest

from detector.errors import InputError
from detector.imageset import ImageSet
from detector.parts import Sources, draw, one_of_each
from tests.conftest import SHAPE, make_images

PIXELS = np.random.default_rng(0).integers(0, 256, size=(6, *SHAPE), dtype=np.uint8)
FLOATS = PIXELS.astype(np.float32) / np.float32(255)


def test_by_index_where_every_set_has_one() -> None:
    clean = ImageSet(images=PIXELS, source_index=np.array([7, 7, 1, 2, 3, 4]))
    attacked = ImageSet(images=make_images(3), source_index=np.array([7, 9, 2]))
    sources = Sources([clean], [("fgsm", attacked)])
    assert sources.of(clean) == [7, 7, 1, 2, 3, 4]
    assert sources.of(attacked) == [7, 9, 2]


def test_by_pixels_of_the_clean_image_otherwise() -> None:
    """uint8 and the floats that a model makes of it are one image; an attacked image goes by its clean one."""
    clean = ImageSet(images=PIXELS, source_index=np.arange(6))
    attacked = ImageSet(images=make_images(3), clean=FLOATS[[4, 4, 0]])
    sources = Sources([clean], [("fgsm", attacked)])
    behind = sources.of(clean)
    assert sources.of(attacked) == [behind[4], behind[4], behind[0]]
    assert len(set(sources.of(clean))) == 6
    nudged = PIXELS.copy()
    nudged[4, 0, 0, 0] ^= 1
    assert behind[4] not in sources.of(ImageSet(images=nudged))


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
    drawn = draw(sources.of(clean), fraction, seed=0)
    assert len(drawn) == round(fraction * 20)
    assert drawn < set(sources.of(clean))


def test_the_draw_for_the_fit_is_another() -> None:
    clean = ImageSet(images=make_images(100), source_index=np.arange(100))
    sources = Sources([clean], [])
    assert draw(sources.of(clean), 0.5, 0, "fit") != draw(sources.of(clean), 0.5, 0)
    with pytest.raises(InputError, match="fit fraction: expected a number between 0 and 1, found 2"):
        draw(sources.of(clean), 2.0, 0, "fit")


def test_one_image_of_each_source_counts() -> None:
    """Drawn at random, so that none of its places is preferred; without repeats, all of them."""
    repeated = ImageSet(images=make_images(90), source_index=np.tile(np.arange(30), 3))
    sources = Sources([repeated], [])
    masks = [one_of_each(sources.of(repeated), seed) for seed in range(40)]
    for mask in masks:
        assert repeated.source_index is not None
        assert sorted(repeated.source_index[mask]) == list(range(30))
    assert np.array_equal(masks[0], one_of_each(sources.of(repeated), 0))
    share = np.mean(masks, axis=0).reshape(3, 30).mean(axis=1)
    assert np.abs(share - 1 / 3).max() < 0.06  # 1,200 draws, 4 standard deviations
    assert one_of_each(sources.of(repeated.only(masks[0])), 0).all()


def test_equal_pixels_are_one_source() -> None:
    twice = ImageSet(images=np.concatenate([PIXELS, PIXELS[:2]]))
    assert one_of_each(Sources([twice], []).of(twice), 0).sum() == len(PIXELS)


def test_the_draw_depends_on_the_seed_and_the_sources_only() -> None:
    clean = ImageSet(images=make_images(100), source_index=np.arange(100))
    shuffled = clean.only(np.ones(100, dtype=np.bool_))
    order = np.random.default_rng(1).permutation(100)
    shuffled = ImageSet(images=clean.images[order], source_index=order)
    draws = [draw(Sources([one], []).of(one), 0.5, seed) for seed in (0, 1) for one in (clean, shuffled)]
    assert draws[0] == draws[1]
    assert draws[2] == draws[3]
    assert draws[0] != draws[2]


def test_the_draw_by_pixels_repeats() -> None:
    clean = ImageSet(images=make_images(50))
    assert draw(Sources([clean], []).of(clean), 0.5, 3) == draw(Sources([clean], []).of(clean), 0.5, 3)


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
        draw(Sources([clean], []).of(clean), fraction, seed)
