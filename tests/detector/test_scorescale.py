"""Where scores are drawn."""

import numpy as np
import pytest

from detector.scores import SCORES
from detector.scorescale import BINS, scale_for

SHOWN = np.concatenate([[-np.inf, 0.0, -0.0], -np.geomspace(1e-9, 1e9, 400), np.linspace(-3, 3, 400)])


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_drawn_and_the_order_kept(name: str) -> None:
    scale = scale_for(name, SHOWN)
    places = scale.place(np.sort(SHOWN))
    assert ((scale.low <= places) & (places <= scale.high)).all()
    assert (np.diff(places) >= 0).all()
    counts, _ = np.histogram(places, bins=scale.edges)
    assert len(counts) == BINS
    assert counts.sum() == len(SHOWN)


@pytest.mark.parametrize("name", SCORES)
def test_a_tick_lies_where_its_score_does(name: str) -> None:
    scale = scale_for(name, SHOWN)
    ticks = scale.ticks()
    scores = np.array([float(text.strip("\u2264\u2265 ")) for _, text in ticks])
    assert len(ticks) >= 2
    np.testing.assert_allclose([place for place, _ in ticks], scale.place(scores), rtol=1e-5)
    assert (np.diff(scores) > 0).all()


@pytest.mark.parametrize("shown", [[], [-np.inf], [2.5, 2.5]], ids=["none", "infinite", "equal"])
def test_a_linear_scale_has_a_width_whatever_it_shows(shown: list[float]) -> None:
    scale = scale_for("entropy", np.array(shown, dtype=np.float64))
    assert scale.low < scale.high
    assert scale.ticks()
