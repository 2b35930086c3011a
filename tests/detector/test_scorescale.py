"""Where scores are drawn."""

import numpy as np
import pytest

from detector.prediction import Floats
from detector.scores import SCORES
from detector.scorescale import BINS, scale_for
from detector.targets import TargetFpr

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


@pytest.mark.parametrize("limit", [-np.inf, -1.0, np.inf])
@pytest.mark.parametrize("shown", [[], [-np.inf], [2.5, 2.5]], ids=["none", "infinite", "equal"])
def test_a_linear_scale_has_a_width_whatever_it_shows(shown: list[float], limit: float) -> None:
    scale = scale_for("entropy", np.array(shown, dtype=np.float64), limits=np.array([limit]))
    assert scale.low < scale.high
    assert scale.ticks()


def skewed(factor: float = 1.0) -> tuple[Floats, list[Floats], Floats]:
    """Scores as a fitted score gives them: clean ones with a tail to the left, attacked ones far beyond it."""
    rng = np.random.default_rng(0)
    clean = factor * (-35 - 6 * rng.gamma(2.0, size=2000))
    attacked = [clean.mean() - factor * 800 * rng.random(200), clean.mean() + factor * 500 * rng.random(200)]
    return clean, attacked, np.array([TargetFpr(0.05).threshold(clean, [])])


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_attacked_scores_leave_the_clean_ones_room(factor: float) -> None:
    clean, attacked, limits = skewed(factor)
    scale = scale_for("mahalanobis", clean, attacked, limits)
    quarter, three_quarters = np.quantile(clean, (0.25, 0.75))
    assert (three_quarters - quarter) / (scale.high - scale.low) >= 0.15
    assert scale.low < limits[0] < scale.high
    ends = [scale.ticks()[0][1][0], scale.ticks()[-1][1][0]]
    assert ends == ["\u2264", "\u2265"]  # what lies beyond is drawn there


def test_an_end_that_holds_all_scores_has_no_sign() -> None:
    scale = scale_for("energy", np.linspace(-3, 3, 2000), limits=np.array([-3.5]))
    first, *_, last = (name for _, name in scale.ticks())
    assert (float(first), float(last)) == (scale.low, scale.high) == (-4.1, 3.0)


def test_every_finite_threshold_is_in_view() -> None:
    clean, attacked, _ = skewed()
    for limit in (-200.0, -60.0, -36.0, 10.0):
        scale = scale_for("mahalanobis", clean, attacked, np.array([limit]))
        assert scale.low < limit < scale.high
