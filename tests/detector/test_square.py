"""The Square attack: what it promises of every image, what it asks, and what it finds where the answer is known."""

import numpy as np
import pytest

from detector.ball import ball
from detector.errors import InputError
from detector.goal import Goal, Targeted, Untargeted
from detector.square import Searched, Square
from tests.detector.asked import Asked, Images, noise, weights

ROWS = np.arange(100)


def search(asked: Asked, images: Images, settings: Square, goal: Goal | None = None) -> Searched:
    """Away from the classifier's own answer, unless there is a goal."""
    goal = Untargeted(asked.labels(images)) if goal is None else goal
    return settings.search(asked.oracle(), images, goal, ROWS[: len(images)])


def least_margin(matrix: np.ndarray, images: Images, labels: np.ndarray, eps: float) -> np.ndarray:
    """Of two classes, the margin at the worst point of the ball: each pixel by itself at its worse end."""
    low, high = (end.reshape(len(images), -1).astype(np.float64) for end in ball(images, eps))
    slope = matrix[:, labels].T - matrix[:, 1 - labels].T
    return np.asarray(np.minimum(slope * low, slope * high).sum(axis=1))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Square(eps=0.03), "square5000-0.03"),
        (Square(eps=0.1, queries=200, seed=3), "square200-0.1"),
        (Square(eps=0.1, p=0.05), "square5000-0.1-p0.05"),
    ],
    ids=["defaults", "queries", "p"],
)
def test_the_name_tells_the_strength(settings: Square, name: str) -> None:
    assert settings.name == name
    assert settings.describe() == {
        "name": name, "method": "square", "eps": settings.eps, "queries": settings.queries, "p": settings.p,
        "seed": settings.seed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.0}, "eps: expected a number above 0 and at most 1, in units of .* found 0.0"),
        ({"eps": float("nan")}, "eps: .* found nan"),
        ({"eps": 1.01}, "eps: .* found 1.01"),
        ({"queries": 1}, "queries: expected at least 2, found 1"),
        ({"p": 0.0}, "p: expected a share above 0 and at most 1, found 0.0"),
        ({"p": 1.5}, "p: .* found 1.5"),
        ({"seed": -1}, "seed: expected at least 0, found -1"),
    ],
    ids=["eps 0", "eps nan", "eps large", "queries", "p 0", "p large", "seed"],
)
def test_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Square(**{"eps": 0.1, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("queries", [10_000, 1000])
@pytest.mark.parametrize(
    ("of_10_000", "halvings"),
    [(0, 0), (10, 0), (20, 1), (50, 1), (60, 2), (200, 2), (210, 3), (500, 3), (510, 4), (1000, 4), (1010, 5),
     (2000, 5), (2010, 6), (4000, 6), (4010, 7), (6000, 7), (6010, 8), (8000, 8), (8010, 9), (9990, 9)],
)  # fmt: skip
def test_squares_shrink_as_the_source_has_it_rescaled_to_the_queries(
    queries: int, of_10_000: int, halvings: int
) -> None:
    side = Square(eps=0.1, queries=queries).side(of_10_000 * queries // 10_000, 224, 224)
    assert side == round((0.8 / 2**halvings * 224 * 224) ** 0.5)


@pytest.mark.parametrize(
    ("size", "p", "expected"), [((6, 6), 1.0, 6), ((3, 12), 1.0, 3), ((9, 2), 0.8, 2), ((4, 4), 1e-6, 1)]
)
def test_a_square_fits_into_the_image(size: tuple[int, int], p: float, expected: int) -> None:
    assert Square(eps=0.1, p=p).side(0, *size) == expected


@pytest.mark.parametrize("eps", [1e-9, 0.01, 0.1, 1 / 3, 1.0])
def test_everything_asked_and_returned_is_in_the_ball_and_in_range(eps: float) -> None:
    asked, images = Asked(weights()), noise(1)
    found = search(asked, images, Square(eps=eps, queries=40))
    for image in (*asked.calls, found.images):
        assert image.dtype == np.float32
        # As a checker would compute it, in float32 and in float64.
        assert np.abs(image - images).max() <= np.float32(eps)
        assert np.abs(image.astype(np.float64) - images.astype(np.float64)).max() <= eps
        assert image.min() >= 0
        assert image.max() <= 1


def test_the_clean_image_is_asked_about_first_and_stripes_second() -> None:
    asked, images = Asked(weights()), np.full((8, 3, 5, 7), 0.5, np.float32)
    asked.matrix = np.zeros((105, 2))
    search(asked, images, Square(eps=0.25, queries=2))
    clean, stripes = asked.calls
    assert np.array_equal(clean, images)
    assert set(np.unique(stripes)) == {0.25, 0.75}
    assert (stripes == stripes[:, :, :1]).all()
    assert 0.4 < (stripes[:, :, 0] > 0.5).mean() < 0.6


def test_each_later_candidate_is_one_square_away_from_the_best() -> None:
    """With a classifier that answers all alike, the best stays the stripes."""
    shape, settings = (2, 7, 9), Square(eps=0.25, queries=300)
    asked = Asked(np.zeros((126, 2)), shape=shape)
    images = np.full((3, *shape), 0.5, np.float32)
    search(asked, images, settings)
    stripes, reached = asked.calls[1], np.zeros(shape[1:], bool)
    for square, candidate in enumerate(asked.calls[2:]):
        side = settings.side(square, *shape[1:])
        for moved, image in zip(candidate != stripes, candidate, strict=True):
            rows, columns = (np.flatnonzero(moved.any(axis=axes)) for axes in ((0, 2), (0, 1)))
            assert len(rows) > 0, "nothing to be learnt"
            assert np.ptp(rows) < side
            assert np.ptp(columns) < side
            for channel, ends in zip(moved, image, strict=True):
                assert len(np.unique(ends[channel])) <= 1
            reached |= moved.any(axis=0)
    assert reached.all()


def test_what_is_returned_is_the_best_of_all_that_was_asked() -> None:
    asked, images = Asked(weights(4)), noise(1)
    goal = Untargeted(asked.labels(images))
    found = search(asked, images, Square(eps=0.002, queries=80), goal)
    assert not goal.reached(found.after).any()
    losses = [float(goal.loss(asked.predict(call))[0]) for call in asked.calls[1:]]
    assert goal.loss(asked.predict(found.images))[0] == min(losses)
    assert min(losses) < losses[0]
    assert np.array_equal(found.before, asked.labels(images))
    assert np.array_equal(found.after, asked.labels(found.images))


def test_no_image_is_asked_about_more_often_than_allowed_nor_once_it_is_fooled() -> None:
    asked, images = Asked(weights()), noise(40)
    found = search(asked, images, Square(eps=0.05, queries=60))
    fooled = found.after != found.before
    assert asked.times(images) == found.queries.tolist()
    assert 0 < fooled.sum() < 40
    assert (found.queries[~fooled] == 60).all()
    assert found.queries[fooled].mean() < 60
    # The last candidate asked about is the one that is returned.
    last = {image.tobytes(): number for number, call in enumerate(asked.calls) for image in call}
    assert all(last[image.tobytes()] == count - 1
               for image, count in zip(found.images[fooled], found.queries[fooled], strict=True))  # fmt: skip


def test_an_image_that_is_wrong_already_costs_one_query_and_stays_as_it_is() -> None:
    asked, images = Asked(weights()), noise(10)
    found = search(asked, images, Square(eps=0.3, queries=50), Untargeted(1 - asked.labels(images)))
    assert np.array_equal(found.images, images)
    assert (found.queries == 1).all()
    assert len(asked.calls) == 1


@pytest.mark.parametrize("goal", [Untargeted, Targeted])
def test_an_image_is_attacked_alike_in_any_company(goal: type[Goal]) -> None:
    asked, images = Asked(weights(5)), noise(12)
    wanted = goal((asked.labels(images) + (goal is Targeted)) % 5)
    settings = Square(eps=0.4 if goal is Targeted else 0.05, queries=50)
    whole = settings.search(asked.oracle(), images, wanted, ROWS[:12])
    assert len(set(whole.queries.tolist())) > 2
    order = np.random.default_rng(0).permutation(12)
    for chosen in ([0], [11], order[:5], order):
        few = settings.search(asked.oracle(), images[chosen], wanted.only(np.array(chosen)), ROWS[chosen])
        for name in ("images", "queries", "before", "after"):
            assert np.array_equal(getattr(few, name), getattr(whole, name)[chosen])


def test_draws_depend_on_the_seed_and_the_row() -> None:
    asked, images = Asked(np.zeros((36, 2))), np.full((3, 1, 6, 6), 0.5, np.float32)
    for seed in (1, 2):
        Square(eps=0.1, queries=4, seed=seed).search(
            asked.oracle(), images, Untargeted(np.zeros(3, int)), np.array([7, 8, 7])
        )
    first, second = (np.stack(asked.calls[start : start + 4], axis=1) for start in (0, 4))
    assert np.array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_of_two_linear_classes_just_those_are_fooled_that_can_be(eps: float) -> None:
    """The margin is a sum over pixels, so that single pixels lead to its minimum, which can be written down."""
    asked, images = Asked(weights()), noise(100)
    labels = asked.labels(images)
    possible = least_margin(asked.matrix, images, labels, eps) < 0
    assert 0 < possible.sum() < 100
    found = search(asked, images, Square(eps=eps, queries=1000))
    assert np.array_equal(found.after != labels, possible)


def test_where_nothing_fools_the_worst_point_of_the_ball_is_found() -> None:
    asked, images = Asked(weights()), noise(20)
    labels = asked.labels(images)
    exact = least_margin(asked.matrix, images, labels, 0.01)
    found = search(asked, images, Square(eps=0.01, queries=3000))
    held = found.after == labels
    np.testing.assert_allclose(Untargeted(labels).loss(asked.predict(found.images))[held], exact[held], atol=1e-9)
    assert held.any()


def test_certain_members_are_no_shelter() -> None:
    """Margins of hundreds, where the plain probabilities are all 0 and 1, and only their logs differ."""
    asked, images = Asked(weights(scale=60.0)), noise(60)
    labels = asked.labels(images)
    possible = least_margin(asked.matrix, images, labels, 0.1) < 0
    flat = (asked.predict(images).max(axis=1) == 1) & possible
    assert flat.sum() > 10
    found = search(asked, images, Square(eps=0.1, queries=1000))
    assert (found.after != labels)[flat].all()


def test_more_queries_and_a_larger_radius_are_never_weaker() -> None:
    asked, images = Asked(weights(5)), noise(80)
    labels = asked.labels(images)

    def fooled(eps: float, queries: int) -> int:
        return int((search(asked, images, Square(eps=eps, queries=queries)).after != labels).sum())

    by_queries = [fooled(0.05, queries) for queries in (5, 20, 100, 500)]
    assert by_queries == sorted(set(by_queries))
    by_radius = [fooled(eps, 50) for eps in (0.01, 0.03, 0.1, 0.3)]
    assert by_radius == sorted(set(by_radius))


def test_a_target_is_reached() -> None:
    asked, images = Asked(weights(5)), noise(30)
    targets = (asked.labels(images) + 2) % 5
    found = search(asked, images, Square(eps=0.4, queries=300), Targeted(targets))
    assert (found.after == targets).all()
    assert (found.queries > 2).any()


@pytest.mark.parametrize("shape", [(3, 1, 8), (1, 9, 2), (4, 3, 5)], ids=["one row", "narrow", "four channels"])
def test_any_shape_is_searched(shape: tuple[int, int, int]) -> None:
    asked, images = Asked(weights(shape=shape), shape=shape), noise(30, shape=shape)
    labels = asked.labels(images)
    possible = least_margin(asked.matrix, images, labels, 0.3) < 0
    found = search(asked, images, Square(eps=0.3, queries=1000))
    assert np.array_equal(found.after != labels, possible)
    assert possible.any()


def test_a_budget_ends_the_search_with_what_it_has() -> None:
    asked, images = Asked(weights()), noise(10)
    oracle = asked.oracle(budget=64)
    found = Square(eps=0.001, queries=50).search(oracle, images, Untargeted(asked.labels(images)), ROWS[:10])
    assert sum(map(len, asked.calls)) == oracle.spent == 60
    assert (found.queries == 6).all()
    assert not np.array_equal(found.images, images)


def test_progress_rises_to_the_end() -> None:
    told: list[float] = []
    asked, images = Asked(weights()), noise(3)
    Square(eps=0.001, queries=9).search(
        asked.oracle(), images, Untargeted(asked.labels(images)), ROWS[:3], progress=told.append
    )
    assert told == sorted(told)
    assert told[-1] == 1.0
