"""The geometry of the plots against what they show, counted anew."""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from detector.page.histogram import Histogram, Histograms
from detector.page.roc import Roc
from detector.prediction import Floats
from detector.scorescale import BINS, scale_for
from detector.threshold import Threshold

HALF = 0.51
"""Places are rounded to half a unit."""


def drawn(path: str) -> Iterator[tuple[float, float]]:
    """The corners of a path of steps."""
    x = y = 0.0
    for letter, first, second in re.findall(r"([MHV])(-?[\d.]+)(?: (-?[\d.]+))?", path):
        x = float(first) if letter in "MH" else x
        y = float(second) if letter == "M" else float(first) if letter == "V" else y
        yield x, y


@pytest.fixture
def scores() -> tuple[Floats, Floats]:
    generator = np.random.default_rng(1)
    clean, attacked = -np.exp(generator.normal(-2, 1.5, 300)), -np.exp(generator.normal(-1, 1.5, 200))
    attacked[:20], clean[:5] = -np.inf, -np.inf
    return clean, attacked


def test_the_curve_passes_through_every_threshold(scores: tuple[Floats, Floats]) -> None:
    clean, attacked = scores
    axes = Roc.beside(clean)
    corners = np.array(list(drawn(axes.path(clean, attacked))))
    for limit in np.unique(np.concatenate(scores))[1:]:
        x = axes.at(float((clean < limit).mean()))
        y = Roc.frame.base - (attacked < limit).mean() * (Roc.frame.base - Roc.frame.top)
        starts, ends = corners[:-1], corners[1:]
        inside = (
            (np.minimum(starts, ends) - HALF <= (x, y)).all(axis=1)
            & (np.maximum(starts, ends) + HALF >= (x, y)).all(axis=1)
        )  # fmt: skip
        assert inside.any(), limit


def test_the_curve_stays_in_its_frame_and_rises(scores: tuple[Floats, Floats]) -> None:
    corners = np.array(list(drawn(Roc.beside(scores[0]).path(*scores))))
    frame = Roc.frame
    assert corners[0].tolist() == [frame.left, frame.base]
    assert corners[-1].tolist() == [frame.end, frame.top]
    assert (np.diff(corners[:, 0]) >= 0).all()
    assert (np.diff(corners[:, 1]) <= 0).all()


def test_the_ticks_are_shares_of_the_axis() -> None:
    axes = Roc.beside(np.zeros(500))
    assert [name for _, name in axes.ticks] == ["0.1 %", "1 %", "10 %", "100 %"]
    places = [place for place, _ in axes.ticks]
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0])
    assert places[-1] == pytest.approx(Roc.frame.end)
    assert axes.at(0.0) == pytest.approx(Roc.frame.left)


def histograms(clean: Floats, attacks: list[Floats], threshold: Threshold | None = None) -> list[Histogram]:
    scale = scale_for("log_diversity", clean)
    return Histograms.of(scale, threshold or Threshold(overall=-1.0), clean, attacks).drawn()


def heights(path: str) -> Floats:
    """How far each bar reaches from the axis; minus is up."""
    corners = list(drawn(path))
    axis = corners[0][1]
    return np.array([y - axis for (_, y) in corners[1:-1:2]])


def test_bars_are_shares_of_their_own_images(scores: tuple[Floats, Floats]) -> None:
    clean, attacked = scores
    scale = scale_for("log_diversity", clean)
    (found,) = histograms(clean, [attacked])
    up, down = heights(found.clean), heights(found.attacked)
    assert len(up) == len(down) == BINS
    unit = -up.sum()
    for bars, images in ((-up, clean), (down, attacked)):
        counts, _ = np.histogram(scale.place(images), bins=scale.edges)
        uncut = np.minimum(counts / len(images) * unit, Histogram.frame.base - found.axis)
        np.testing.assert_allclose(bars, uncut, atol=0.1)


def test_all_attacks_are_drawn_on_one_scale(scores: tuple[Floats, Floats]) -> None:
    clean, attacked = scores
    peaked = np.full(50, -1.0)
    alone, beside, other = *histograms(clean, [attacked]), *histograms(clean, [attacked, peaked])
    assert beside.clean == other.clean
    assert np.abs(heights(alone.clean)).max() > np.abs(heights(beside.clean)).max()
    assert heights(other.attacked).max() == pytest.approx(Histogram.frame.base - other.axis)


def test_a_bar_at_an_end_is_cut_so_that_the_others_are_seen(scores: tuple[Floats, Floats]) -> None:
    clean, _ = scores
    (found,) = histograms(clean, [np.full(100, -1e6)])
    room = Histogram.frame.base - found.axis
    assert heights(found.attacked).max() == pytest.approx(room, abs=0.1)
    (other,) = histograms(clean, [])
    # Each half has half the room, and is drawn four times as high as beside a bar that is not cut.
    share = -heights(other.clean).min() / -heights(other.clean).sum()
    assert -heights(found.clean).min() == pytest.approx(min(room, 4 * room * share), abs=0.1)


def test_clean_images_alone_have_the_plot_for_themselves(scores: tuple[Floats, Floats]) -> None:
    (found,) = histograms(scores[0], [])
    assert found.attacked == ""
    assert found.axis == Histogram.frame.base
    assert -heights(found.clean).min() == pytest.approx(Histogram.frame.base - Histogram.frame.top)


def test_thresholds_of_classes_span_a_range(scores: tuple[Floats, Floats]) -> None:
    (found,) = histograms(scores[0], [], Threshold(by_class=(-10.0, -1.0, -0.1)))
    third = (found.limits[1] - found.limits[0]) / 2
    assert third == pytest.approx((Histogram.frame.end - Histogram.frame.left) / 6)


def test_no_two_names_of_ticks_share_a_place(scores: tuple[Floats, Floats]) -> None:
    (found,) = histograms(scores[0], [])
    named = [(at, name, end) for at, name, end in found.ticks if name]
    assert [end for _, _, end in named][:: len(named) - 1] == ["start", "end"]
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}
    spans = [(at - share[end] * 6 * len(name), at + (1 - share[end]) * 6 * len(name)) for at, name, end in named]
    assert all(right < left for (_, right), (left, _) in pairwise(spans))
