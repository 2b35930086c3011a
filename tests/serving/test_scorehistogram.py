"""The score histogram against counting one by one."""

import math

import numpy as np
import pytest

from serving.scorehistogram import ScoreHistogram


def by_hand(edges: list[float], scores: list[float]) -> list[float]:
    return [float(sum(score <= edge for score in scores)) for edge in [*edges, math.inf]]


@pytest.mark.parametrize("threshold", [-2.5, -math.inf, None])
def test_it_counts_as_one_would_by_hand(threshold: float | None) -> None:
    rng = np.random.default_rng(0)
    clean = sorted([-math.inf, *rng.normal(size=300)])
    histogram = ScoreHistogram(clean, threshold)
    batches = [rng.normal(size=50) - 1, np.array([-math.inf, 0.0]), histogram.edges.copy()]
    for batch in batches:
        histogram.add(batch)
    edges = histogram.edges.tolist()
    assert edges == sorted(set(edges))
    assert all(map(math.isfinite, edges))
    assert [count for _, count in histogram.served()] == by_hand(edges, np.concatenate(batches).tolist())
    assert [count for _, count in histogram.clean()] == by_hand(edges, clean)
    assert [float(name) for name, _ in histogram.served()] == [*edges, math.inf]


def test_scores_that_are_all_alike_have_one_bucket_and_the_rest() -> None:
    histogram = ScoreHistogram([-1.0] * 10, -1.0)
    histogram.add(np.array([-2.0, -1.0, 0.0]))
    assert histogram.served() == [("-1.0", 2.0), ("+Inf", 3.0)]
